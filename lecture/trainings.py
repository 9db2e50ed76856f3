"""Short trainings on digits for the lecture's pictures and notebooks: minutes on a laptop."""

import pathlib

from ml_collections import ConfigDict

from common import models, train
from common.claims import preflight
from common.run import metrics, summary
from configs import resnet_digits, vit_digits
from resnet.model import weighted_layers

COMPARED = (("plain", 2), ("plain", 6), ("residual", 6))  # kinds, and blocks in each of three stages
_VARIANTS = {"plain": "plain20", "residual": "resnet20"}


def name(kind: str, blocks: int) -> str:
    """The kind of a network of COMPARED and its depth, in words."""
    return f"{kind}, {weighted_layers(3 * (blocks,), 'basic')} layers"


def twin(kind: str, blocks: int) -> ConfigDict:
    """The config of a network of 6 `blocks` + 2 layers on digits of 8x8 pixels; kind: 'plain' or 'residual'.

    The two kinds differ only in the shortcuts; both have batch normalisation (He et al. 2016, section 4.2).
    """
    config = resnet_digits.get_config()
    # A stage's blocks are compiled once and looped over. In a run as short as this, compiling is most of the time.
    config.model = models.section("resnet", _VARIANTS[kind], stage_sizes=3 * (blocks,), width=8, scan="on")
    config.model.bn_momentum = 0.5  # running averages that follow a run of a hundred updates
    config.data.resize, config.augment.crop_pad = 0, 0
    config.train.length = "4 epochs"
    config.train.log_every = "8 steps"
    return config


def transformer() -> ConfigDict:
    """The config of a small Vision Transformer on the digits, shorter than `configs/vit_digits.py`."""
    config = vit_digits.get_config()
    config.train.length = "20 epochs"
    config.schedule.warmup = "2 epochs"
    config.evaluate.every = "20 epochs"
    config.checkpoint.every = "20 epochs"
    return config


def trained(config: ConfigDict, folder: pathlib.Path) -> pathlib.Path:
    """The folder with the finished run of a config, trained unless it is there already.

    Raises UserError if the folder holds a run of another config, whose picture would look like the one asked for.
    """
    preflight.check_run(folder, config)
    if not summary.exists(folder):
        train.fit(config, folder)
    return folder


def training_curve(folder: pathlib.Path) -> tuple[list[int], list[float]]:
    """The numbers of updates at each log line, and the training error since the line before, in per cent."""
    records = metrics.read(folder, "train")
    return [record["step"] for record in records], [100 * record["error"] for record in records]
