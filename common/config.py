"""Every option of a run, with its default and meaning, in one place.

A config file calls `base(model)` and overrides what its experiment changes; the result is locked, so an option
that is not here is an error. Durations are text, '20 epochs' or '64000 steps', in passes over the training set
or in updates.
"""

from typing import Any

from ml_collections import ConfigDict

from common import duration, optimizers, registry, schedules
from common.errors import UserError, unknown


def base(model: ConfigDict) -> ConfigDict:
    """The default experiment for a `models.section(...)`: every key a run reads."""
    config = ConfigDict()
    config.seed = 0  # of the initial weights, the order of examples, augmentation and dropout
    config.model = model  # family, variant and every hyper-parameter of the network

    config.data = data = ConfigDict()
    data.source = "digits"  # 'digits' (bundled), 'tfds:NAME[/CONFIG]' or 'folder:PATH'
    data.directory = ""  # where TFDS keeps prepared datasets; '' is TFDS's own default
    data.train_split = "train"  # TFDS split or slice, such as 'train[:90%]'
    data.test_split = "test"
    data.limit = 0  # train on the first N examples only; 0 is all
    data.holdout = 0.2  # fraction of each class held out for testing where the source has no test set
    data.channels = 0  # 1 (grey), 3 (colour), or 0: as the data has it
    data.invert = False  # swap black and white
    data.resize = 0  # side in pixels that images are resized to; 0 leaves them
    data.pad = 0  # pixels of background added at each side, after resizing
    data.memory = "auto"  # 'arrays' decodes once into memory, 'stream' at each access, 'auto' by size
    data.pixel_range = (0.0, 1.0)  # what black (0) and white (255) become; float images are left as they are
    data.shuffle = "epoch"  # a new order each 'epoch', one order drawn 'once', or 'none': as stored
    data.workers = 2  # threads that read and decode ahead when streaming

    config.augment = augment = ConfigDict()  # random changes to training images, on the device
    augment.translate = 0.0  # largest shift along each axis, pixels
    augment.scale = 0.0  # largest relative change of size
    augment.squeeze = 0.0  # largest relative horizontal compression with vertical elongation, or the reverse
    augment.shear = 0.0  # largest horizontal shear, columns per row
    augment.probability = 1.0  # of these four being applied to an image
    augment.mirror = False  # left-right, with probability 1/2
    augment.crop_pad = 0  # pad each side by this many pixels, then crop back at random
    augment.pixel_inversion = 0.0  # probability of each pixel being inverted

    config.train = train = ConfigDict()
    train.length = "20 epochs"
    train.batch_size = 128  # examples in one update, over all devices and processes
    train.accumulate = 1  # split each batch into this many parts, to save memory; the update is the same
    train.steps_per_call = 1  # updates in one compiled call: raise it where a step is shorter than its dispatch
    train.label_smoothing = 0.0  # for cross-entropy losses
    train.log_every = "1 epoch"

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "momentum"  # see common/optimizers.py
    optimizer.momentum = 0.9
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.eps = 1e-8
    optimizer.mu = 0.02  # 'diagonal_levenberg_marquardt': added to each curvature (LeCun 1998, eq. 21)
    optimizer.curvature_examples = 500  # 'diagonal_levenberg_marquardt': examples it is estimated on, each epoch
    optimizer.weight_decay = 0.0
    optimizer.decay = "coupled"  # into the gradient (L2 penalty), or 'decoupled' from it (AdamW)
    optimizer.decay_mask = "all"  # parameters that decay: 'all', or 'kernels' (arrays of that name)
    optimizer.clip_norm = 0.0  # largest global norm of the gradient; 0 is no clipping
    optimizer.ema = 0.0  # keep-factor of the averaged parameters and batch statistics that evaluation uses; 0: none

    config.schedule = schedule = ConfigDict()
    schedule.name = "constant"  # see common/schedules.py
    schedule.learning_rate = 0.01  # the highest
    schedule.warmup = "0 steps"  # linear rise
    schedule.warmup_from = 0.0  # learning rate that it starts from
    schedule.boundaries = ()  # 'piecewise': durations after which the next value holds
    schedule.rates = ()  # 'piecewise': one more than boundaries; 'table': one for each epoch, the last stays
    schedule.final = 0.0  # 'cosine', 'linear', 'polynomial': learning rate at the end
    schedule.power = 1.0  # 'polynomial'
    schedule.timescale = "10000 steps"  # 'inverse_sqrt': constant until here, then falls
    schedule.factor = 0.1  # 'plateau': multiplies the rate when the test error stops falling
    schedule.patience = 5  # 'plateau': evaluations without improvement before it does
    schedule.min_scale = 1e-3  # 'plateau': three drops by ten, then no more

    config.evaluate = evaluate = ConfigDict()
    evaluate.every = "1 epoch"
    evaluate.batch_size = 1000

    config.checkpoint = checkpoint = ConfigDict()
    checkpoint.every = "1 epoch"
    checkpoint.keep = 2  # latest ones kept; the one with the lowest test error is kept besides

    config.mesh = mesh = ConfigDict()
    mesh.devices = 0  # devices to train on, 0 is all

    config.profile = profile = ConfigDict()  # writes WORKDIR/profile for TensorBoard or Perfetto
    profile.start = 10  # first step of the trace
    profile.steps = 0  # steps in the trace; 0 is no trace
    return config.lock()


def validate(config: ConfigDict) -> None:
    """Refuse values that are out of range or contradict each other, before anything is loaded."""
    train, data = config.train, config.data
    for key in ("length", "log_every"):
        duration.parse(train[key], f"config.train.{key}")
    duration.parse(config.evaluate.every, "config.evaluate.every")
    duration.parse(config.checkpoint.every, "config.checkpoint.every")
    _at_least(config, 1, ("train.batch_size", "train.accumulate", "train.steps_per_call", "evaluate.batch_size"))
    _at_least(config, 1, ("checkpoint.keep", "optimizer.curvature_examples"))
    _at_least(config, 0, ("mesh.devices", "profile.steps", "data.limit", "data.resize", "data.pad", "data.workers"))
    _one_of(config, "data.shuffle", ("epoch", "once", "none"))
    _one_of(config, "data.memory", ("auto", "arrays", "stream"))
    _one_of(config, "data.channels", (0, 1, 3))
    _one_of(config, "optimizer.decay", ("coupled", "decoupled"))
    _one_of(config, "optimizer.decay_mask", ("all", "kernels"))
    if train.batch_size % train.accumulate:
        raise UserError(
            f"config.train.batch_size {train.batch_size} does not split into config.train.accumulate "
            f"{train.accumulate} equal parts"
        )
    if not 0 < data.holdout < 1:
        raise UserError(f"config.data.holdout is {data.holdout}; expected a fraction between 0 and 1")
    if not 0 <= config.optimizer.ema < 1:
        raise UserError(f"config.optimizer.ema is {config.optimizer.ema}; expected at least 0 and less than 1")
    defaults = base(ConfigDict())
    registry.check(config, defaults, "optimizer", optimizers.OPTIMIZERS, optimizers.SHARED_KEYS)
    registry.check(config, defaults, "schedule", schedules.SCHEDULES, schedules.SHARED_KEYS)


def _get(config: ConfigDict, path: str) -> Any:
    value = config
    for name in path.split("."):
        value = value[name]
    return value


def _at_least(config: ConfigDict, low: int, paths: tuple[str, ...]) -> None:
    for path in paths:
        if _get(config, path) < low:
            raise UserError(f"config.{path} is {_get(config, path)}; expected at least {low}")


def _one_of(config: ConfigDict, path: str, allowed: tuple) -> None:
    if _get(config, path) not in allowed:
        raise unknown(f"value of config.{path}", _get(config, path), allowed)
