"""GoogLeNet on CIFAR-10, with a stem that keeps the resolution.

Network: googlenet/model.py, variant 'googlenet_small': one 3x3 layer as the stem, batch normalisation, and the paper's
auxiliary classifiers.
Data: TFDS cifar10, or a folder of images with --config.data.source=folder:PATH
Command: python -m common.main --config=configs/googlenet_cifar10.py --config.data.directory=DIR
Recipe: ours; batch 128, momentum, cosine schedule, random crops, mirror images, 100 epochs.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("googlenet", "googlenet_small"))
    config.data.source = "tfds:cifar10"
    config.data.normalize = "channels"
    config.augment.crop_pad = 4
    config.augment.mirror = True
    config.train.batch_size = 128
    config.train.length = "100 epochs"
    config.optimizer.name = "momentum"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_mask = "kernels"
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.1
    config.schedule.warmup = "2 epochs"
    return config
