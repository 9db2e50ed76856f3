"""ResNets and plain networks on ImageNet, with the paper's recipe.

Paper: He, Zhang, Ren, Sun 2016, section 3.4.
Data: python -m common.prepare --dataset=imagenet2012 --data_dir=DIR --manual_dir=ARCHIVES; or, for images in
PATH/train/<class>/ and PATH/val/<class>/, --config.data.source=folder:PATH
Command: first `python -m common.statistics`, then `python -m common.main`, both with
    --config=configs/resnet_imagenet.py:resnet50 --config.data.directory=DIR
Variants: resnet18, 34, 50, 101, 152, plain18 and plain34, as in the paper; names ending in _modern are as used today.
Expected: ten-crop top-1 errors of 27.88 and 25.03% for resnet18 and 34 (27.94 and 28.54% for their plain twins), and
22.85, 21.75 and 21.43% for resnet50 to 152.
Test: one centre crop; the paper's test is --mode=evaluate --protocol=ten_crop.
Deviations: the mean image's centre is subtracted from every crop, wherever it comes from; colour shifts are those of
`alexnet_imagenet`.
"""

from common import models
from common.config import base


def get_config(variant: str = "resnet50"):
    config = shared_options(models.section("resnet", variant, batch_groups=8))  # 8 GPUs with 32 images each
    config.data.train_crop = "random"
    config.data.resize_max = 480
    config.data.normalize = "pixels"
    config.data.std = (1.0,)
    config.augment.pca_colour = 0.1
    config.train.length = "600000 steps"
    config.schedule.name = "plateau"
    config.schedule.learning_rate = 0.1
    return config


def shared_options(model):
    """The options that all recipes for ImageNet share."""
    config = base(model)
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.channels = 3
    config.data.resize = 256
    config.data.crop = 224
    config.data.workers = 16
    config.augment.mirror = True
    config.train.batch_size = 256
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.evaluate.batch_size = 500
    return config


def with_area_crops(config):
    """The options that later recipes share: GoogLeNet's crops, ImageNet's mean and deviation of each colour."""
    config.data.train_crop = "area"
    config.data.normalize = "channels"
    config.data.mean = (123.675, 116.28, 103.53)
    config.data.std = (58.395, 57.12, 57.375)
    return config
