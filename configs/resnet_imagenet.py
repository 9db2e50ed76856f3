"""ResNets and plain nets on ImageNet, with the paper's recipe.

Paper: He, Zhang, Ren, Sun 2016, section 3.4.
Data: python -m common.prepare --dataset=imagenet2012 --data_dir=DIR --manual_dir=ARCHIVES
Command: python -m common.main --config=configs/resnet_imagenet.py:resnet50 --config.data.directory=DIR
Variants: resnet18, 34, 50, 101, 152, plain18 and plain34, as in the paper; names ending in _modern are today's.
Expected: ten-crop top-1 error 27.88 and 25.03 per cent for resnet18 and 34 (27.94 and 28.54 for their plain twins),
22.85, 21.75 and 21.43 for resnet50 to 152.
Deviates: images are cropped at random around their centre at one size instead of at shorter sides of 256 to 480;
one mean for all pixels; no colour augmentation.
"""

from common import models
from common.config import base


def get_config(variant: str = "resnet50"):
    config = without_schedule(models.section("resnet", variant, batch_groups=8))  # 8 GPUs with 32 images each
    config.train.length = "600000 steps"
    config.schedule.name = "plateau"
    config.schedule.learning_rate = 0.1
    return config


def without_schedule(model):
    """What all recipes for ImageNet share."""
    config = base(model)
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.resize = 224
    config.data.channels = 3
    config.data.pixel_range = (-1.99, 2.44)  # mean 0 and deviation 1 over all pixels
    config.data.workers = 16
    config.augment.mirror = True
    config.augment.crop_pad = 28
    config.train.batch_size = 256
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.evaluate.batch_size = 500
    return config
