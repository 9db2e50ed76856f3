"""Every option of a run, with its default and meaning, in one place.

A config file calls `base(model)` and overrides the options that its experiment changes. The result is locked, so an
option that is not here is an error. Durations are text: '20 epochs' are passes over the training set, '64000 steps' are
updates.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from common import models
from common.data import augment, datasets, normalize, preparation
from common.data.splits import Dataset
from common.errors import UserError, unknown
from common.optim import duration, optimizers, plan, registry, schedules

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
    config.model = model  # family, variant and every hyper-parameter of the network

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


def validate(config: ConfigDict) -> None:
    """Raises UserError for values that are out of range or contradict each other, before anything is loaded."""
    if "data" in config and "model" not in config:
        raise UserError(
            "the config is not a network's: it has no section 'model'; python -m classic.main takes pipelines"
        )
    defaults = base(config.model.copy_and_resolve_references() if "model" in config else ConfigDict())
    check_options(config, defaults)
    if config.mesh.fsdp < 1 and config.mesh.fsdp != -1:
        raise UserError(f"config.mesh.fsdp is {config.mesh.fsdp}; expected a number of devices, or -1 for all")
    datasets.check(config.data)
    preparation.check(config.data)
    normalize.check(config)
    augment.check(config)
    plan.check(config)
    registry.check(config, defaults, "optimizer", optimizers.OPTIMIZERS, optimizers.SHARED_KEYS)
    registry.check(config, defaults, "schedule", schedules.SCHEDULES, schedules.SHARED_KEYS)
    optimizers.check(config.optimizer)
    schedules.check(config.schedule)
    if config.train.batch_size % config.train.accumulate:
        raise UserError(
            f"config.train.batch_size {config.train.batch_size} does not split into config.train.accumulate "
            f"{config.train.accumulate} equal parts"
        )
    if config.data.sampling == config.train.class_weights == "balanced":
        raise UserError(
            "config.data.sampling and config.train.class_weights are both 'balanced', which corrects for the sizes of "
            "the classes twice; choose one"
        )
    if not config.evaluate.test and not config.data.validation:
        raise UserError(
            "config.evaluate.test is False, but without config.data.validation training watches the test set; "
            "set config.data.validation, such as '15%'"
        )
    unset = ("auto", "", False, ())
    options = [name for name in config.init if name != "checkpoint" and config.init[name] not in unset]
    if not config.init.checkpoint and options:
        raise UserError(f"config.init.{' and '.join(options)} is set, but config.init.checkpoint is empty")
    if config.init.new_head and config.init.match_classes:
        raise UserError("config.init.new_head starts the head anew, and config.init.match_classes keeps it; choose one")
    models.check(config.model)
    models.check_init(config.model.family, config.init)


_PLAIN = ("sgd", "momentum", "nesterov")  # optimizers whose direction is the gradient


def check_given(config: ConfigDict, given: Collection[str]) -> None:
    """Raises UserError for an option of a validated config that is set and has no effect.

    given: the paths of the options that the command line gives, such as 'data.area'; see `check_effects`.
    """
    data, augmented, optimizer = config.data, config.augment, config.optimizer
    affine = ("augment.translate", "augment.scale", "augment.squeeze", "augment.shear")
    warms = duration.parse(config.schedule.warmup, "config.schedule.warmup")[0] > 0
    decays = (("optimizer.weight_decay",), bool(optimizer.weight_decay))
    areas = (("data.train_crop",), data.train_crop == "area")
    resized = data.resize or data.train_crop == "area"
    needs = {  # option -> the options that switch it on, and whether they do
        "optimizer.decay_mask": decays,
        "optimizer.decay": (decays[0], decays[1] or optimizer.name == "adamw"),  # adamw accepts only 'decoupled'
        "schedule.warmup_from": (("schedule.warmup",), warms),
        "data.area": areas,
        "data.ratio": areas,
        "data.pixel_range": (("data.normalize",), data.normalize == "range"),
        "data.interpolation": (("data.resize", "data.train_crop"), bool(resized)),
        "data.directory": (("data.source",), data.source.startswith("tfds:")),
        "data.holdout": (("data.source",), not data.source.startswith("tfds:")),  # these have a test split
        "augment.probability": (affine, any(augmented[path.removeprefix("augment.")] for path in affine)),
        "augment.randaugment_magnitude": (("augment.randaugment_layers",), bool(augmented.randaugment_layers)),
        "profile.start": (("profile.steps",), bool(config.profile.steps)),
        "mesh.fsdp": (("mesh.devices",), config.mesh.devices != 1 or config.mesh.fsdp == 1),
    }
    if "optimizer.decay" in given and optimizer.decay == "decoupled" and optimizer.name in _PLAIN:
        raise UserError(
            f"config.optimizer.decay 'decoupled' has no effect with config.optimizer.name '{optimizer.name}': nothing "
            "divides the gradient, so both kinds of decay are the same; 'adam' and 'adamw' tell them apart"
        )
    check_effects(flat(config), flat(base(config.model.copy_and_resolve_references())), given, needs)


def check_holdout(data: ConfigDict, dataset: Dataset) -> None:
    """Raises UserError if `holdout` of a `data` section is set for a dataset that has a test set of its own."""
    if data.holdout != base(ConfigDict()).data.holdout and not dataset.held_out:
        raise UserError(
            f"config.data.holdout has no effect, because config.data.source '{data.source}' has a test set of its own; "
            "leave it out"
        )


def check_effects(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    given: Collection[str],
    needs: Mapping[str, tuple[Sequence[str], bool]],
) -> None:
    """Raises UserError for an option that is set, on the command line or in a config file, and has no effect.

    values, defaults: every option by its path. given: the options on the command line; a config file has set those that
    differ from their defaults. needs: option -> the options that switch it on, and whether they do. If the command
    line sets one of these, the options that need it may stay: a command that turns decay off need not reset its mask.
    """
    for path, (switches, on) in needs.items():
        is_set = path in given or values[path] != defaults[path]
        if is_set and not on and not set(switches) & set(given):
            why = " and ".join(f"config.{switch} is {values[switch]!r}" for switch in switches)
            raise UserError(f"config.{path} has no effect, because {why}")


def check_options(config: ConfigDict, defaults: ConfigDict) -> None:
    """Raises UserError for options that are missing or unknown, and for values that are out of range by themselves."""
    values, usual = flat(config), flat(defaults)
    _check_presence(values, usual)
    _check_values(values, usual)
    _check_ranges(values)
    for path, allowed in _CHOICES.items():
        if values[path] not in allowed:
            raise unknown(f"value of config.{path}", values[path], allowed)


def _check_presence(values: Values, usual: Values) -> None:
    """Raises UserError for missing options, as when a config file did not start from `base`, and for unknown ones."""
    for path in usual:
        if path not in values:
            raise UserError(f"the config has no {path}; a config file starts from common.config.base()")
    for path in values:
        if path not in usual:
            raise unknown("option", f"config.{path}", [f"config.{known}" for known in usual])


def _check_values(values: Values, usual: Values) -> None:
    """Raises UserError for what ml_collections lets pass: wrong elements of tuples, NaN, infinity and huge numbers."""
    for path, default in usual.items():
        value = values[path]
        if isinstance(default, list):
            texts = _TEXTS.get(path)
            for element in value:
                if isinstance(element, str) != bool(texts) or not isinstance(element, str | int | float):
                    expected = texts or "numbers"
                    raise UserError(f"config.{path} holds {element!r}; expected {expected}")
        for number in value if isinstance(default, list) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"config.{path} is {number}; expected a finite number")
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise UserError(f"config.{path} is {number:.3e}; expected a whole number of at most 64 bits")


# Options that are tuples of texts, with a description of the texts.
_TEXTS = {"schedule.boundaries": "durations such as '2 epochs'", "optimizer.factors": "texts such as 'conv1*=0'"}
_CHOICES = {
    "tracker": ("", "wandb", "mlflow"),
    "init.source": SOURCES,
    "data.shuffle": ("epoch", "once", "none"),
    "data.sampling": ("uniform", "balanced"),
    "train.class_weights": ("", "balanced"),
    "data.memory": ("auto", "arrays", "stream"),
    "data.channels": (0, 1, 3),
    "data.train_crop": ("centre", "random", "area"),
    "data.normalize": ("range", "channels", "pixels"),
    "data.interpolation": tuple(preparation.INTERPOLATIONS),
    "optimizer.moment_dtype": ("float32", "bfloat16"),
    "optimizer.decay": ("coupled", "decoupled"),
    "optimizer.decay_mask": ("all", "kernels"),
}
_LOWEST = {
    1: (
        *("train.batch_size", "train.accumulate", "evaluate.batch_size", "checkpoint.keep"),
        *("optimizer.curvature_examples", "schedule.patience", "mesh.start_timeout", "mesh.heartbeat_timeout"),
    ),
    0: (
        *("seed", "train.patience", "train.steps_per_call", "mesh.hang_timeout", "mesh.devices"),
        *("profile.start", "profile.steps"),
        *("data.limit", "data.resize", "data.crop", "data.pad", "data.resize_max", "data.workers"),
        *("augment.randaugment_layers", "augment.mixup"),
        *("optimizer.eps", "optimizer.mu", "optimizer.weight_decay", "optimizer.clip_norm"),
        *("schedule.learning_rate", "schedule.warmup_from", "schedule.final", "schedule.power", "schedule.min_scale"),
    ),
}
_HIGHEST = {
    "seed": 2**32 - 1,  # JAX's random keys take 32 bits of a seed
    "data.workers": 1000,  # more threads would never start
    "augment.randaugment_layers": 100,  # each is compiled
}
_FRACTIONS = ("optimizer.momentum", "optimizer.b1", "optimizer.b2", "optimizer.ema", "train.label_smoothing")  # [0, 1)
_SHARES = ("data.holdout", "schedule.factor")  # (0, 1)
_PAIRS = ("data.area", "data.ratio", "data.pixel_range")  # (lowest, highest)


def _check_ranges(values: Values) -> None:
    for low, paths in _LOWEST.items():
        for path in paths:
            if values[path] < low:
                raise UserError(f"config.{path} is {values[path]}; expected at least {low}")
    for path, high in _HIGHEST.items():
        if values[path] > high:
            raise UserError(f"config.{path} is {values[path]}; expected at most {high}")
    for path in _FRACTIONS:
        if not 0 <= values[path] < 1:
            raise UserError(f"config.{path} is {values[path]}; expected at least 0 and less than 1")
    for path in _SHARES:
        if not 0 < values[path] < 1:
            raise UserError(f"config.{path} is {values[path]}; expected a fraction between 0 and 1")
    for path in _PAIRS:
        if len(values[path]) != 2:
            raise UserError(f"config.{path} is {tuple(values[path])}; expected two numbers")
    if any(rate < 0 for rate in values["schedule.rates"]):
        raise UserError(f"config.schedule.rates is {tuple(values['schedule.rates'])}; expected numbers of at least 0")
