"""The networks for CIFAR-10 by AlexNet's author, on which the paper measures normalisation; the argument names one.

Paper: Krizhevsky, Sutskever, Hinton 2012, section 3.3: "a four-layer CNN achieved a 13% test error rate without
normalization and 11% with normalization". `--config.model.lrn` switches it on or off, at the same width.
Data: TFDS cifar10, or a folder of images with --config.data.source=folder:PATH
Command: python -m common.main --config=configs/alexnet_author_cifar10.py[:cifar10_13] --config.data.directory=DIR
Recipe: after the author's code (alexnet/cifar.py): batch 128, momentum 0.9, learning rate 0.001, mirror images, 24x24
pixels. Deviations: the centre of each image instead of random crops, no weight decay, one rate for weights and biases,
a cosine over 60 epochs.
"""

from common import models
from common.config import base


def get_config(variant: str = "cifar10_13"):
    config = base(models.section("alexnet", variant))
    config.data.source = "tfds:cifar10"
    config.data.crop = 24
    config.data.normalize = "pixels"
    config.data.std = (1.0,)
    config.augment.mirror = True
    config.train.batch_size = 128
    config.train.length = "60 epochs"
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 1e-3
    return config
