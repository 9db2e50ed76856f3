"""Every option of a classic pipeline, with its default and meaning, in one place.

A config file calls `base(pipeline)` and changes the options that its dataset needs. The sections `describe`,
`encode` and `decode` hold a part's name and its options; the part's module says what they mean.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from classic import options, pooling
from classic.decoders import DECODERS, selection
from classic.descriptors import DESCRIBERS
from classic.encoders import ENCODERS
from common import config as common_config
from common import config_checks
from common.data import datasets, preparation
from common.errors import UserError, unknown

_MODULES = {"describe": DESCRIBERS, "encode": ENCODERS, "decode": DECODERS}
PARTS = tuple(_MODULES)  # the sections that hold a part's name and its options

# The intersection kernel compares histograms of shares of words.
_HISTOGRAMS = {"encode.power": 1.0, "encode.norm": "l1"}

# Each pipeline's parts, and the options whose values are not its parts' defaults.
PIPELINES: dict[str, dict[str, Any]] = {
    # Classifiers of pixels (LeCun, Bottou, Bengio & Haffner 1998, section III-C).
    "raw_linear": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "linear_svm"},
    "raw_logistic": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "logistic"},
    "knn": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "knn"},
    "pairwise": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "pairwise_linear"},
    "pca_quadratic": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "quadratic"},
    "rbf_network": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "rbf_network"},
    "tangent": {"describe": "tangents", "encode": "flat", "pool": "whole", "decode": "tangent_distance"},
    "rbf_svm": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "rbf_svm"},
    "poly_svm": {"describe": "pixels", "encode": "flat", "pool": "whole", "decode": "polynomial_svm"},
    "virtual_svm": {"describe": "shifts", "encode": "flat", "pool": "whole", "decode": "virtual_svm"},
    # Histograms of oriented gradients (Dalal & Triggs 2005).
    "hog_svm": {"describe": "hog", "encode": "flat", "pool": "whole", "decode": "linear_svm"},
    # SIFT descriptors in the place of these histograms.
    "sift_svm": {"describe": "dense_sift", "encode": "flat", "pool": "whole", "decode": "rbf_svm"},
    # Bags of visual words (Csurka et al. 2004), at keypoints, at corners, and on a grid.
    "sparse_sift": {
        "describe": "sift",
        "encode": "words",
        "pool": "whole",
        "decode": "intersection_svm",
        **_HISTOGRAMS,
    },
    "harris": {
        "describe": "sift",
        "encode": "words",
        "pool": "whole",
        "decode": "intersection_svm",
        "describe.detector": "harris",
        **_HISTOGRAMS,
    },
    "bow": {"describe": "dense_sift", "encode": "words", "pool": "whole", "decode": "intersection_svm", **_HISTOGRAMS},
    # The spatial pyramid and its kernel (Lazebnik, Schmid & Ponce 2006).
    "pyramid": {
        "describe": "dense_sift",
        "encode": "words",
        "pool": "pyramid2",
        "decode": "intersection_svm",
        "pool.weighted": True,
        **_HISTOGRAMS,
    },
    # Improved Fisher vectors (Perronnin, Sanchez & Mensink 2010), with places, not a pyramid (Sanchez et al. 2013).
    "fisher": {
        "describe": "dense_sift",
        "encode": "fisher",
        "pool": "whole",
        "decode": "linear_svm",
        "encode.positions": True,
    },
    # Sparse codes, max pooling (Yang, Yu, Gong & Huang 2009); locality-constrained codes (Wang et al. 2010).
    "scspm": {"describe": "dense_sift", "encode": "sparse", "pool": "pyramid2", "decode": "linear_svm"},
    "llc": {"describe": "dense_sift", "encode": "llc", "pool": "pyramid2", "decode": "linear_svm"},
    # Single-layer k-means features (Coates, Lee & Ng 2011).
    "kmeans": {
        "describe": "patches",
        "encode": "triangle",
        "pool": "quadrants",
        "decode": "linear_svm",
        "decode.standardise": True,
    },
}

# Decoder -> the describer whose features it reads: an image and, after it, its tangent vectors or its copies.
_READS = {"tangent_distance": "tangents", "virtual_svm": "shifts"}

# Part -> its options that have an effect only for some values of another option: that option, and a test of its value.
_SWITCHES: dict[str, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "sift": {
        **dict.fromkeys(("contrast", "edge"), ("detector", lambda detector: detector == "dog")),
        "size": ("detector", lambda detector: detector != "dog"),
    },
    "patches": {"constant": ("normalise", lambda normalise: normalise == "contrast")},
    "flat": dict.fromkeys(("whiten", "sample"), ("pca", bool)),
    "triangle": {"eps": ("whiten", bool)},
}


def base(pipeline: str = "raw_linear") -> ConfigDict:
    """The default experiment of a pipeline: every option that a run reads.

    pipeline: a name of `PIPELINES`, perhaps followed by parts that replace its own, as in 'fisher+knn' or
    'bow+pyramid2+linear_svm'. Raises UserError for a name that does not exist.
    """
    name, *others = pipeline.split("+")
    if name not in PIPELINES:
        raise unknown("pipeline", name, PIPELINES)
    changes = dict(PIPELINES[name])
    parts = {kind: changes.pop(kind) for kind in (*PARTS, "pool")}
    for other in others:
        kind = _kind(other)
        parts[kind] = other
        changes = {path: value for path, value in changes.items() if not path.startswith(f"{kind}.")}

    config = ConfigDict()
    config.seed = 0  # of the sample of descriptors, of the vocabulary and of the decoder
    config.data = common_config.base(ConfigDict()).data.copy_and_resolve_references()
    config.describe = section("describe", parts["describe"])  # images to descriptors
    config.encode = section("encode", parts["encode"])  # descriptors to codes
    config.encode.sample = 200_000  # descriptors of training images that the encoder is fitted to
    config.pool = pool = ConfigDict()  # codes to an image's features
    pool.layout = parts["pool"]  # the regions of an image, see classic/pooling.py
    pool.weighted = False  # True: regions have the weights of the spatial pyramid's kernel (Lazebnik 2006, section 3)
    pool.dtype = "float32"  # of the features; 'float16' halves their size in memory and on disk
    config.decode = section("decode", parts["decode"])  # features to a score for each class
    config.evaluate = evaluate = ConfigDict()
    evaluate.batch_size = 500  # images that are described and encoded at once
    config.update_from_flattened_dict(changes)
    return config.lock()


def adapt(config: ConfigDict, changes: Mapping[str, Mapping[str, Any]]) -> ConfigDict:
    """The config, changed in place by the changes for its own parts: part -> {path of an option: value}."""
    for part in (config.describe.name, config.encode.name, config.decode.name):
        config.update_from_flattened_dict(dict(changes.get(part, {})))
    return config


def section(kind: str, name: str) -> ConfigDict:
    """The section of a part: its name, and its options with their defaults. kind: a name of `PARTS`."""
    known = _known(kind)
    if name not in known:
        raise unknown(f"config.{kind}.name", name, known)
    return ConfigDict({"name": name, **_declared(kind, name)[0]})


def validate(config: ConfigDict) -> None:
    """Raises UserError for values that are out of range or contradict each other, before anything is loaded."""
    defaults = base()
    if "model" in config:
        raise UserError("the config is a network's: it has a section 'model'; python -m common.main takes it")
    for path in ("seed", "data", "pool", "evaluate", *PARTS):
        if path not in config:
            raise UserError(f"the config has no {path}; a config file of a pipeline starts from classic.config.base()")
    for path in set(config) - set(defaults):
        raise unknown("option", f"config.{path}", [f"config.{known}" for known in defaults])
    _check_shared(config)
    for kind in PARTS:
        _check_part(config[kind], kind)
    sections = {
        "pool": ({"layout": tuple(pooling.LAYOUTS), "dtype": ("float32", "float16")}, {}),
        "evaluate": ({}, {"batch_size": options.COUNT}),
    }
    for name, (choices, ranges) in sections.items():
        options.check(name, config[name], defaults[name].to_dict(), choices, ranges)
    if config.encode.sample < 1:
        raise UserError(f"config.encode.sample is {config.encode.sample}; expected at least 1")
    _check_parts_that_belong_together(config)


def check_given(config: ConfigDict, given: Collection[str]) -> None:
    """Raises UserError for an option of a validated config that is set and has no effect.

    given: the paths of the options that the command line gives, such as 'pool.weighted'; see
    `common.config_checks.check_effects`.
    """
    data, by_validation = config.data, "C" in config.decode and selection.constant(config.decode.C) is None
    needs: dict[str, tuple[Sequence[str], bool]] = {
        "data.interpolation": (("data.resize",), bool(data.resize)),
        "data.directory": (("data.source",), data.source.startswith("tfds:")),
        "data.holdout": (("data.source",), not data.source.startswith("tfds:")),
        "pool.weighted": (("pool.layout",), len(pooling.LAYOUTS[config.pool.layout]) > 1),
    }
    if "C" in config.decode:
        needs["decode.constants"] = ("decode.C",), by_validation
        needs["decode.holdout"] = ("decode.C", "data.validation"), by_validation and not data.validation
    for kind in PARTS:
        for option, (switch, is_on) in _SWITCHES.get(config[kind].name, {}).items():
            needs[f"{kind}.{option}"] = (f"{kind}.{switch}",), is_on(config[kind][switch])
    own = ConfigDict({kind: section(kind, config[kind].name) for kind in PARTS})
    defaults = {**common_config.flat(base()), **common_config.flat(own)}
    config_checks.check_effects(common_config.flat(config), defaults, given, needs)


def check_colour(config: ConfigDict, channels: int) -> None:
    """Raises UserError if the pipeline is to describe the colours of grey images, which have one channel."""
    colour = config.describe.get("colour", "grey")
    if channels == 1 and colour != "grey":
        raise UserError(f"config.describe.colour '{colour}' has no effect on grey images; leave it out")


def _check_shared(config: ConfigDict) -> None:
    """Raises UserError for options that no run can have, and for those that a classic pipeline does not read."""
    defaults = common_config.base(ConfigDict())
    whole = ConfigDict({**defaults.to_dict(), "seed": config.seed, "data": config.data.to_dict()})
    config_checks.check_options(whole, defaults)
    read, unset = common_config.flat(config.data), common_config.flat(defaults.data)
    for name in common_config.UNREAD_BY_PIPELINES:
        if read[name] != unset[name]:
            raise UserError(f"config.data.{name} is set, but a classic pipeline does not read it")
    datasets.check(config.data)
    preparation.check(config.data)


def _check_part(section: ConfigDict, kind: str) -> None:
    """Raises UserError for an unknown part, options of another part, and values that the part does not take."""
    name = section.get("name")
    if name not in _known(kind):
        raise unknown(f"config.{kind}.name", name, _known(kind))
    defaults, choices, ranges = _declared(kind, name)
    given = {key: value for key, value in section.items() if (kind, key) != ("encode", "sample")}
    if set(given) != {"name", *defaults}:
        raise UserError(
            f"config.{kind}.name is '{name}', but the section has the options of another part; name the part with "
            f"the pipeline: --config=FILE:PIPELINE+{name}"
        )
    try:
        ConfigDict(defaults).update({option: given[option] for option in defaults})
    except TypeError as error:
        raise UserError(f"config.{kind} holds a value of another type: {error}") from error
    options.check(kind, ConfigDict(given), defaults, choices, ranges)
    if "C" in given:
        selection.constant(given["C"])


def _check_parts_that_belong_together(config: ConfigDict) -> None:
    """Raises UserError if a decoder that reads an image in several parts would get other features."""
    describer = _READS.get(config.decode.name)
    if describer is None:
        return
    needed = {"describe.name": describer, "encode.name": "flat", "encode.pca": 0, "pool.layout": "whole"}
    for path, value in needed.items():
        section, option = path.split(".")
        if config[section].get(option, value) != value:
            raise UserError(
                f"config.{path} is '{config[section][option]}', but config.decode '{config.decode.name}' reads the "
                f"features of describer '{describer}' as they are; expected '{value}'"
            )


def _known(kind: str) -> Collection[str]:
    """The names of the parts that a section can hold."""
    return pooling.LAYOUTS if kind == "pool" else _MODULES[kind]


def _kind(name: str) -> str:
    """The section that a part belongs to."""
    kinds = (*PARTS, "pool")
    found = [kind for kind in kinds if name in _known(kind)]
    if not found:
        raise unknown("part of a pipeline", name, [part for kind in kinds for part in _known(kind)])
    return found[0]


def _declared(kind: str, name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The options of a part: defaults, choices and ranges."""
    module = _MODULES[kind][name]
    return module.DEFAULTS, module.CHOICES, module.RANGES
