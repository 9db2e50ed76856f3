"""Every option of a run, with its default and meaning, in one place.

A config file calls `base(model)` and overrides the options that its experiment changes. The result is locked, so an
option that is not here is an error. Durations are text: '20 epochs' counts passes over the training set, '64000 steps'
counts updates.
"""

import json
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from common import models
from common.errors import UserError, unknown

# Options of the `data` section that a classic pipeline does not read. It neither normalises pixels nor crops training
# images at random, and the order of images does not matter to it.
UNREAD_BY_PIPELINES = (
    *("train_crop", "resize_max", "area", "ratio", "normalize", "pixel_range", "mean", "std", "statistics"),
    *("shuffle", "sampling", "workers"),
)
SOURCES = ("auto", "torchvision", "timm", "huggingface", "google", "cifar", "own")  # of `init.source`


def base(model: ConfigDict) -> ConfigDict:
    """The default experiment for a `models.section(...)`: every option that a run reads."""
    config = ConfigDict()
    config.seed = 0  # of the initial weights, the order of examples, augmentation and dropout
    config.tracker = ""  # also send the numbers to 'wandb' or 'mlflow'; see common/run/trackers.py
    config.model = model  # family, variant and every hyper-parameter: the fields of the network in FAMILY/model.py

    config.data = data = ConfigDict()
    data.source = "digits"  # 'digits' (bundled), 'tfds:NAME[/CONFIG]', 'folder:PATH', 'parquet:PATH', 'webdataset:PATH'
    data.directory = ""  # where TFDS keeps prepared datasets; '' is TFDS's own default
    data.train_split = "train"  # TFDS split or slice, such as 'train[:90%]'
    data.test_split = "test"
    data.limit = 0  # train on the first N examples only; 0 is all
    data.holdout = 0.2  # fraction of each class held out for testing where the source has no test set
    # The set that selects checkpoints: a share of the training set ('10%'), a TFDS split or slice, or a folder beside
    # train/. '' is none; the test set is watched instead.
    data.validation = ""
    data.channels = 0  # 1 (grey), 3 (colour), or 0: as stored
    data.invert = False  # swap black and white
    data.resize = 0  # pixels of the shorter side that images are resized to; 0 leaves them
    data.stretch = False  # both sides become `resize`, whatever the image's proportions
    data.interpolation = "bilinear"  # or 'bicubic', for resizing; both average where an image shrinks
    data.crop = 0  # side of the square fed to the network, in testing the centre; 0 is the whole resized image
    data.pad = 0  # pixels of background added at each side, after cropping
    data.train_crop = "centre"  # what training keeps: the 'centre', a square at a 'random' place, or an 'area'
    data.resize_max = 0  # training draws the shorter side from `resize` up to this, pixels; 0 is always `resize`
    data.area = (0.08, 1.0)  # 'area': smallest and largest fraction of the image that is kept and resized
    data.ratio = (3 / 4, 4 / 3)  # 'area': its width over its height
    # Go on after an image that cannot be read: training takes the next one in its place, and the test and validation
    # sets leave it out and count it.
    data.skip_bad = False
    data.memory = "auto"  # 'arrays' decodes once into memory, 'stream' at each access; 'auto' goes by size and crop
    # 'range' maps black and white to `pixel_range`; 'channels' subtracts each colour's mean and divides by its
    # standard deviation; 'pixels' subtracts the mean image and divides by each colour's standard deviation.
    data.normalize = "range"
    data.pixel_range = (0.0, 1.0)  # 'range': the values of 0 and 255; float images are left as they are
    data.mean = ()  # 'channels': each colour's mean, 0..255; () is the training set's
    data.std = ()  # 'channels', 'pixels': divisor, 0..255, one or one per colour; () is the training set's deviation
    data.statistics = ""  # .npz of `python -m common.statistics` to use; '' is the run's own
    data.shuffle = "epoch"  # a new order each 'epoch', one order drawn 'once', or 'none': as stored
    data.sampling = "uniform"  # each example once in an epoch, or 'balanced': each class equally often
    data.workers = 2  # threads that read and decode ahead when streaming

    config.init = init = ConfigDict()
    init.checkpoint = ""  # weights to start from: a trained run's workdir or a published file; '' is none
    init.entry = ""  # if a PyTorch file has several networks, the one to take: 'state_dict_ema'; '' is the trained one
    # Publisher of the file: 'torchvision', 'timm', 'huggingface', 'google' or 'cifar'. The network must share its
    # conventions (see docs/weights.md). 'auto' goes by the names in the file, 'own' compares nothing.
    init.source = "auto"
    init.new_head = False  # start with an untrained classification head, for other classes
    # Take each class's weights in the head from the class of the same name in the given weights; other classes
    # start untrained.
    init.match_classes = False
    if model.get("family"):
        init.update(models.init_options(model.family))

    config.augment = augment = ConfigDict()  # random changes to training images, on the device
    augment.translate = 0.0  # largest shift along each axis, pixels
    augment.scale = 0.0  # largest relative change of size
    augment.squeeze = 0.0  # largest relative horizontal compression with vertical elongation, or the reverse
    augment.shear = 0.0  # largest horizontal shear, columns per row
    augment.probability = 1.0  # probability that an image gets the four changes above
    augment.mirror = False  # left-right, with probability 1/2
    augment.crop_pad = 0  # pad each side by this many pixels, then crop back at random
    augment.pixel_inversion = 0.0  # probability of each pixel being inverted
    augment.pca_colour = 0.0  # standard deviation of the random weight of each principal colour; 0 is none
    augment.randaugment_layers = 0  # RandAugment: random operations on each image, one after the other
    augment.randaugment_magnitude = 10.0  # their strength, 0 to 30
    augment.jitter = (0.0, 0.0, 0.0)  # brightness, contrast and saturation change by random factors in 1 +- these
    augment.erase = 0.0  # probability that a random rectangle of an image is filled with noise; 0.5 in the paper
    augment.cutmix = 0.0  # a box of another image is pasted in, its area from Beta(cutmix, cutmix); 0 is never
    augment.mixup = 0.0  # images and labels are blended in pairs, by a share drawn from Beta(mixup, mixup); 0 is never

    config.train = train = ConfigDict()
    train.length = "20 epochs"
    train.batch_size = 128  # examples in one update, over all devices and processes
    # Split each batch into this many parts, to save memory. The update is the same, except with batch normalisation:
    # each part then has its own statistics, exactly as with the same number of model.ghost_batches.
    train.accumulate = 1
    train.steps_per_call = 0  # updates in one compiled call; 0: 1 on CPU and for streamed data, 50 elsewhere
    train.label_smoothing = 0.0  # for cross-entropy losses
    # Weights of the training losses: '' (none), or 'balanced': in inverse proportion to the number of images of the
    # class, with mean 1 over the training set. Mixup and CutMix blend them like the labels; tests use none.
    train.class_weights = ""
    train.log_every = "1 epoch"
    train.patience = 0  # stop after this many evaluations without a lower error; 0 is never

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "momentum"  # see common/optim/optimizers.py
    optimizer.momentum = 0.9
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.eps = 1e-8
    optimizer.moment_dtype = "float32"  # type of Adam's first moment; 'bfloat16' saves memory
    optimizer.mu = 0.02  # 'diagonal_levenberg_marquardt': added to each curvature (LeCun 1998, eq. 21)
    optimizer.curvature_examples = 500  # 'diagonal_levenberg_marquardt': examples for each epoch's estimate
    optimizer.weight_decay = 0.0
    # 'coupled': added to the gradient (L2 penalty); 'decoupled': to what Adam or the curvature makes of it (AdamW).
    # With 'sgd', 'momentum' and 'nesterov' both are the same.
    optimizer.decay = "coupled"
    optimizer.decay_mask = "all"  # parameters that decay: 'all', or only those named 'kernel' ('kernels')
    # Factors of the learning rate by array name, as ('conv1*=0', 'fc*=10'); 0 freezes. See common/optim/factors.py.
    optimizer.factors = ()
    optimizer.clip_norm = 0.0  # largest global norm of the gradient; 0 is no clipping
    # Decay of the moving average of parameters and batch statistics that evaluation uses, at most (1 + t) / (10 + t)
    # after t updates; 0 is no average.
    optimizer.ema = 0.0

    config.schedule = schedule = ConfigDict()
    schedule.name = "constant"  # see common/optim/schedules.py
    schedule.learning_rate = 0.01  # the highest rate
    schedule.warmup = "0 steps"  # linear rise
    schedule.warmup_from = 0.0  # learning rate at the start of the rise
    schedule.boundaries = ()  # 'piecewise': durations after which the next rate applies
    schedule.rates = ()  # 'piecewise': one more than boundaries; 'table': one for each epoch, the last stays
    schedule.final = 0.0  # 'cosine', 'linear', 'polynomial': learning rate at the end
    schedule.power = 1.0  # 'polynomial'
    schedule.timescale = "10000 steps"  # 'inverse_sqrt': constant until here, then falls
    schedule.factor = 0.1  # 'plateau': multiplies the rate when the validation (or else test) error stops falling
    schedule.patience = 5  # 'plateau': evaluations without improvement before the rate drops
    schedule.min_scale = 1e-3  # 'plateau': the smallest product of factors: after three drops by ten, no more

    config.evaluate = evaluate = ConfigDict()
    evaluate.every = "1 epoch"
    evaluate.batch_size = 1000
    evaluate.train_set = False  # at the end, also measure the training set, without augmentation (summary.json)
    evaluate.test = True  # read the test set; False needs a validation set: see common/tune.py

    config.checkpoint = checkpoint = ConfigDict()
    checkpoint.every = "1 epoch"
    checkpoint.keep = 2  # number of latest checkpoints kept, besides the one with the lowest error
    checkpoint.keep_every = "0 steps"  # checkpoints at multiples of this are kept for good; 0 is none

    config.mesh = mesh = ConfigDict()
    mesh.devices = 0  # devices to train on, 0 is all
    mesh.fsdp = 1  # devices that parameters and optimizer state are split over; -1 is all, 1 does not split them
    mesh.start_timeout = 300  # seconds that processes wait for each other, at the start and at barriers
    mesh.heartbeat_timeout = 30  # seconds of silence after which a process counts as lost
    mesh.hang_timeout = 1800  # seconds without progress after which a process prints its stack and stops; 0: never

    config.profile = profile = ConfigDict()  # writes WORKDIR/profile for TensorBoard or Perfetto
    profile.start = 10  # first step of the trace
    profile.steps = 0  # steps in the trace; 0 is no trace
    return config.lock()


Values = dict[str, Any]  # of options, by path


def flat(config: ConfigDict) -> Values:
    """Every option by its path, such as 'train.batch_size'. Values are as JSON returns them: tuples are lists."""
    return traverse_util.flatten_dict(json.loads(config.to_json()), sep=".")


def differences(before: ConfigDict, now: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The options in which two configs differ: path -> (before, now), None where one of them lacks the option."""
    earlier, current = flat(before), flat(now)
    pairs = {path: (earlier.get(path), current.get(path)) for path in {**earlier, **current}}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


# Options that every config had in an earlier version, each with the value that had no effect.
_RETIRED: dict[str, Any] = {"init.old_grid": []}


def upgraded(stored: ConfigDict) -> ConfigDict:
    """A run's stored config, possibly from an earlier version, with the options of this version.

    Newer options get their defaults, and moved options their new place. Raises UserError for options that no version
    had and for values of the wrong type.
    """
    config = base(models.upgraded(stored.model))
    known = flat(config)
    changes = {}
    for path, value in flat(stored).items():
        if path in known and not path.startswith("model."):
            changes[path] = tuple(value) if isinstance(value, list) else value
        elif not path.startswith("model.") and value != _RETIRED.get(path):
            raise unknown("option", f"config.{path}", [f"config.{name}" for name in known])
    try:
        config.update_from_flattened_dict(changes)
    except (TypeError, ValueError) as error:
        raise UserError(f"the config holds a value of another type: {error}") from error
    return config
