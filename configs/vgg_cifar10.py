"""VGG on CIFAR-10; the argument names the network.

Network: configuration D with batch normalisation and fully connected layers of 512 units; other configurations are
'vgg11_bn', 'vgg19_bn', and so on. Five poolings reduce 32x32 pixels to one position.
Data: TFDS cifar10, or a folder of images with --config.data.source=folder:PATH
Command: python -m common.main --config=configs/vgg_cifar10.py[:vgg16_bn] --config.data.directory=DIR
Recipe: ours; batch 128, momentum, cosine schedule, random crops, mirror images, 100 epochs.
"""

from common import models
from common.config import base


def get_config(variant: str = "vgg16_bn"):
    config = base(models.section("vgg", variant, fc_width=512))
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
    config.schedule.learning_rate = 0.05 if config.model.batch_norm else 0.01
    config.schedule.warmup = "2 epochs"
    return config
