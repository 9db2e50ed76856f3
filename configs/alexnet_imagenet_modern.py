"""AlexNet on ImageNet as the weight zoos have it: one column, no normalisation, torchvision's recipe.

Network: variant 'one_column' (Krizhevsky 2014), 61,100,840 parameters.
Data: TFDS imagenet2012, prepared as docs/data.md says.
Command: python -m common.main --config=configs/alexnet_imagenet_modern.py --config.data.directory=DIR
Recipe: torchvision's; batch 256, momentum 0.9, decay 1e-4, rate 0.01 divided by ten every 30 of 90 epochs.
Expected: about 43.5% top-1 and 20.9% top-5 error, centre crop (torchvision's weights).
Deviates: one mean and deviation for all colours; images are resized to 224 and shifted by up to 16 pixels, where
torchvision crops a random area of a random shape; bfloat16 compute.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("alexnet", "one_column", dtype="bfloat16"))
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.resize = 224
    config.data.pixel_range = (-1.99, 2.44)  # 0..1 less ImageNet's mean 0.449, divided by its deviation 0.226
    config.data.workers = 16
    config.augment.crop_pad = 16
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
