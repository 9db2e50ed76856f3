"""VGG on ImageNet as in the published weights, with torchvision's recipe; the argument names the network.

Network: configuration D with batch normalisation, 138,365,992 parameters. Maps are averaged to 7x7 before fc6, so that
images of any size fit. For networks without batch normalisation, such as 'vgg16', the learning rate is a tenth.
Data: TFDS imagenet2012, prepared as docs/data.md says, or --config.data.source=folder:PATH
Command: python -m common.main --config=configs/vgg_imagenet_modern.py[:vgg16_bn] --config.data.directory=DIR
Recipe: torchvision's; batch 256, momentum 0.9, weight decay 1e-4, learning rate 0.1 divided by ten every 30 of 90
epochs; crops of random area and shape, mirror images, ImageNet's mean and deviation of each colour.
Expected: about 26.7% top-1 and 8.5% top-5 error, centre crop (torchvision's weights).
Deviations: bfloat16 computation.
"""

from common import models
from common.config import base


def get_config(variant: str = "vgg16_bn"):
    config = base(models.section("vgg", variant, adaptive_pool=7, dtype="bfloat16"))
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.channels = 3
    config.data.resize = 256
    config.data.crop = 224
    config.data.train_crop = "area"
    config.data.normalize = "channels"
    config.data.mean = (123.675, 116.28, 103.53)
    config.data.std = (58.395, 57.12, 57.375)
    config.data.workers = 16
    config.augment.mirror = True
    config.train.batch_size = 256
    config.train.length = "90 epochs"
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "piecewise"
    config.schedule.boundaries = ("30 epochs", "60 epochs")
    config.schedule.rates = (1e-1, 1e-2, 1e-3) if config.model.batch_norm else (1e-2, 1e-3, 1e-4)
    return config
