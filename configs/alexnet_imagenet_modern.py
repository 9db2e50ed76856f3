"""AlexNet on ImageNet as in the published weights: one column, no normalisation, torchvision's recipe.

Network: variant 'one_column' (Krizhevsky 2014), 61,100,840 parameters.
Data: TFDS imagenet2012, prepared as docs/data.md says, or --config.data.source=folder:PATH
Command: python -m common.main --config=configs/alexnet_imagenet_modern.py --config.data.directory=DIR
Recipe: torchvision's; batch 256, momentum 0.9, weight decay 1e-4, learning rate 0.01 divided by ten every 30 of 90
epochs; crops of random area and shape, mirror images, ImageNet's mean and deviation of each colour.
Expected: about 43.5% top-1 and 20.9% top-5 error, centre crop (torchvision's weights).
Deviations: bfloat16 computation.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("alexnet", "one_column", dtype="bfloat16"))
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
    config.schedule.rates = (1e-2, 1e-3, 1e-4)
    return config
