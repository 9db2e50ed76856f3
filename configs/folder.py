"""Any network on a folder of your own images, from scratch: FOLDER/train/<class>/*, FOLDER/test/<class>/*.

Command: python -m common.main --config=configs/folder.py:FAMILY:VARIANT:FOLDER
for example configs/folder.py:resnet:resnet18:pets
The sub-folders are the classes. Without test/ a fifth of each class is held out. Networks for ImageNet see 224x224
pixels, those for CIFAR-10 and digits 32x32. LeNet's family sees grey images of each network's own size.
Recipe: ours, for a few thousand images: random areas (for the small networks random shifts), mirror images (not for
LeNet's family), batch 32, 60 epochs, a cosine schedule with a warm-up; momentum and weight decay for convolutional
networks, AdamW and clipped gradients for ViTs. With fewer images, start from published weights: configs/finetune.py.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from common import models
from common.config import base
from common.errors import UserError

SMALL = 32  # pixels, the side of images for the networks for CIFAR-10 and digits


def get_config(argument: str = "resnet:resnet18:FOLDER"):
    family, variant, folder = parts(argument)
    config = prepared(family, variant, folder)
    config.train.batch_size = 32
    config.train.length = "60 epochs"
    config.schedule.name = "cosine"
    config.schedule.warmup = "3 epochs"
    if family == "vit":
        config.optimizer.name = "adamw"
        config.optimizer.decay = "decoupled"
        config.optimizer.weight_decay = 0.05
        config.optimizer.clip_norm = 1.0
        config.schedule.learning_rate = 5e-4
    else:
        config.optimizer.name = "nesterov"
        config.optimizer.momentum = 0.9
        config.optimizer.weight_decay = 5e-4
        # Networks without batch normalisation diverge at higher rates.
        normalised = family == "resnet" or config.model.get("batch_norm", False)
        config.schedule.learning_rate = 0.02 if normalised else 0.005
    config.optimizer.decay_mask = "kernels"
    return config


def parts(argument: str, form: str = "FAMILY:VARIANT:FOLDER", example: str = "resnet:resnet18:pets") -> Sequence[str]:
    """The family, the variant and what follows them in a config's argument. Raises UserError if one is missing."""
    found = argument.split(":", 2)
    if len(found) < 3 or not all(found):
        raise UserError(f"the config's argument is '{argument}'; expected {form}, for example {example}")
    return found


def prepared(family: str, variant: str, folder: str, **fields: object) -> ConfigDict:
    """The config of a variant with these fields on the images of a folder, prepared as the variant needs them."""
    config = base(models.section(family, variant, **fields))
    config.data.source = f"folder:{folder}"
    config.data.normalize = "channels"
    config.augment.mirror = True
    if is_small(config.model):
        config.data.resize = SMALL
        config.augment.crop_pad = 4
    else:
        config.data.resize = 256
        config.data.crop = 224
        config.data.train_crop = "area"
        config.data.area = (0.25, 1.0)
    if family == "lenet":
        config.data.resize = models.family_module(family).network(config.model, 10).image_size
        config.data.channels = 1
        config.augment.mirror = False
        config.augment.crop_pad = 2
    config.data.workers = 8
    config.evaluate.batch_size = 100
    config.mesh.devices = 1  # small batches
    return config


def is_small(model: ConfigDict) -> bool:
    """True for networks that were made for images of about 32x32 pixels."""
    if "stages" in model:  # a hybrid; its patches are cut from features, not from the image
        return False
    return (
        model.family == "lenet"
        or "cifar" in model.variant
        or "small" in model.variant
        or model.get("stem") == "cifar"
        or model.get("patch_size", 16) < 8
    )
