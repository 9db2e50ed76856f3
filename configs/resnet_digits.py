"""ResNet-20 on the bundled handwritten digits, which trains anywhere in two minutes.

Network: the CIFAR-10 network of He et al. 2016, section 4.2, on grey images.
Data: scikit-learn's 1,797 digits of 8x8 pixels, a fifth held out for testing; enlarged to 32x32.
Command: python -m common.main --config=configs/resnet_digits.py
Recipe: ours; the paper's optimizer, a cosine schedule with one epoch of warm-up, small shifts by random crops.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("resnet", "resnet20"))
    config.data.resize = 32
    config.data.pixel_range = (-1.0, 1.0)
    config.augment.crop_pad = 2
    config.train.batch_size = 64
    config.train.length = "10 epochs"
    config.optimizer.name = "momentum"
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.1
    config.schedule.warmup = "1 epoch"
    config.mesh.devices = 1  # small batches of a small network
    return config
