"""AlexNet's topology on CIFAR-10, in the small variant for images of 32x32 pixels.

Network: alexnet/model.py, variant 'small'. The paper has no such network; its own for CIFAR-10 are
`alexnet_fig1_cifar10` and the variants 'cifar10_18', 'cifar10_13' and 'cifar10_11'.
Data: TFDS cifar10, or a folder of images with --config.data.source=folder:PATH
Command: python -m common.main --config=configs/alexnet_cifar10.py --config.data.directory=DIR
Recipe: ours; batch 128, momentum, cosine schedule, random crops, mirror images, 60 epochs.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("alexnet", "small"))
    config.data.source = "tfds:cifar10"
    config.data.normalize = "channels"
    config.augment.crop_pad = 4
    config.augment.mirror = True
    config.train.batch_size = 128
    config.train.length = "60 epochs"
    config.optimizer.name = "momentum"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_mask = "kernels"
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.02
    config.schedule.warmup = "1 epoch"
    return config
