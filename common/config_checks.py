"""The checks of a config, before anything is loaded: values out of range, contradictions, options without effect."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from common import config as config_lib
from common import models
from common.data import augment, datasets, normalize, preparation
from common.data.splits import Dataset
from common.errors import UserError, unknown
from common.optim import duration, optimizers, plan, registry, schedules


def validate(config: ConfigDict) -> None:
    """Raises UserError for values that are out of range or contradict each other, before anything is loaded."""
    if "data" in config and "model" not in config:
        raise UserError(
            "the config is not a network's: it has no section 'model'; python -m classic.main takes pipelines"
        )
    defaults = config_lib.base(config.model.copy_and_resolve_references() if "model" in config else ConfigDict())
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
    defaults = config_lib.base(config.model.copy_and_resolve_references())
    check_effects(config_lib.flat(config), config_lib.flat(defaults), given, needs)


def check_holdout(data: ConfigDict, dataset: Dataset) -> None:
    """Raises UserError if `holdout` of a `data` section is set for a dataset that has a test set of its own."""
    if data.holdout != config_lib.base(ConfigDict()).data.holdout and not dataset.held_out:
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
    values, usual = config_lib.flat(config), config_lib.flat(defaults)
    _check_presence(values, usual)
    _check_values(values, usual)
    _check_ranges(values)
    for path, allowed in _CHOICES.items():
        if values[path] not in allowed:
            raise unknown(f"value of config.{path}", values[path], allowed)


def _check_presence(values: config_lib.Values, usual: config_lib.Values) -> None:
    """Raises UserError for missing options, as when a config file did not start from `base`, and for unknown ones."""
    for path in usual:
        if path not in values:
            raise UserError(f"the config has no {path}; a config file starts from common.config.base()")
    for path in values:
        if path not in usual:
            raise unknown("option", f"config.{path}", [f"config.{known}" for known in usual])


def _check_values(values: config_lib.Values, usual: config_lib.Values) -> None:
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
    "init.source": config_lib.SOURCES,
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
    1e-30: ("optimizer.eps",),  # a smaller one vanishes in float32, and then a gradient of 0 becomes 0 / 0
    1: (
        *("train.batch_size", "train.accumulate", "evaluate.batch_size", "checkpoint.keep"),
        *("optimizer.curvature_examples", "schedule.patience", "mesh.start_timeout", "mesh.heartbeat_timeout"),
    ),
    0: (
        *("seed", "train.patience", "train.steps_per_call", "mesh.hang_timeout", "mesh.devices"),
        *("profile.start", "profile.steps"),
        *("data.limit", "data.resize", "data.crop", "data.pad", "data.resize_max", "data.workers"),
        *("augment.randaugment_layers", "augment.mixup"),
        *("optimizer.mu", "optimizer.weight_decay", "optimizer.clip_norm"),
        *("schedule.learning_rate", "schedule.warmup_from", "schedule.final", "schedule.power", "schedule.min_scale"),
    ),
}
_HIGHEST = {
    "seed": 2**32 - 1,  # JAX's random keys take 32 bits of a seed
    "data.workers": 1000,  # more threads would never start
    "schedule.patience": 2**31 - 1,  # counted in 32 bits
}
_FRACTIONS = ("optimizer.momentum", "optimizer.b1", "optimizer.b2", "optimizer.ema", "train.label_smoothing")  # [0, 1)
_SHARES = ("data.holdout", "schedule.factor")  # (0, 1)
_PAIRS = ("data.area", "data.ratio", "data.pixel_range")  # (lowest, highest)


def _check_ranges(values: config_lib.Values) -> None:
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
