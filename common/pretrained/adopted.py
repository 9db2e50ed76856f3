"""The options that a network takes over from trained weights: conventions, which no array shows, and preprocessing.

A config file calls `adopt` when it knows the weights, before the command line overrides its options.
"""

from collections.abc import Collection

from ml_collections import ConfigDict

from common import config as config_lib
from common import models
from common.data import decode, pixel_statistics
from common.errors import UserError
from common.files import user_path
from common.pretrained import hugging_face, identify, weight_files
from common.run import workdir

_PIXELS = ("channels", "resize", "stretch", "interpolation", "crop", "normalize", "pixel_range", "mean", "std")
_OF_RUNS = ("invert", "pad")


def adopt(config: ConfigDict, keep: Collection[str] = ()) -> None:
    """Sets the options of `config.model` and `config.data` to those of the weights in `config.init.checkpoint`.

    keep: options of the model that stay as they are. Raises UserError for weights that do not exist or are of another
    variant, and for a file that says nothing about the images it expects.
    """
    path = user_path(config.init.checkpoint)
    if not path.exists():
        raise UserError(
            f"config.init.checkpoint is '{path}', which does not exist; the config reads from it how images are "
            f"prepared, also when a run goes on{decode.similar_name(path)}"
        )
    if path.is_dir() and not hugging_face.is_folder(path):
        found = workdir.load_config(path)
        data = _of_run(found, workdir.load_info(path).image_shape)
        if pixel_statistics.needs_statistics(found):
            data["statistics"] = str(path / pixel_statistics.FILE)
    else:
        arrays = weight_files.read(hugging_face.file_of(path), config.init.entry)
        found = identify.identify(path, arrays, config.init.source).config
        data = {name: found.data[name] for name in _PIXELS}
    ours, theirs = ((one.model.family, one.model.variant) for one in (config, found))
    if ours != theirs:
        raise UserError(
            f"{path} is of {theirs[0]}:{theirs[1]}, not {ours[0]}:{ours[1]}; expected {theirs[0]}:{theirs[1]} in the "
            "config's argument"
        )
    usual = models.section(*theirs)
    config.model.update(
        {name: found.model[name] for name in usual if usual[name] != found.model[name] and name not in keep}
    )
    if data["normalize"] != "range":  # the range that is there then belongs to another normalisation
        data["pixel_range"] = config_lib.base(ConfigDict()).data.pixel_range
    config.data.update(data)


def _of_run(config: ConfigDict, image_shape: tuple[int, int, int]) -> dict[str, object]:
    """The options of a run's images, with the channels and the size that its dataset decided. image_shape: as fed."""
    side, _, channels = image_shape
    data = {name: config.data[name] for name in (*_PIXELS, *_OF_RUNS)} | {"channels": channels}
    return data if config.data.resize else {**data, "resize": side - 2 * config.data.pad, "crop": 0}
