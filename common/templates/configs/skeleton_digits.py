"""Skeleton on the bundled handwritten digits, which trains anywhere in a minute.

Data: scikit-learn's 1,797 digits of 8x8 pixels, a fifth held out for testing; enlarged to 16x16.
Command: python -m common.main --config=configs/skeleton_digits.py[:wide]
Recipe: ours; AdamW, cosine schedule, small shifts.
"""

from common import models
from common.config import base


def get_config(variant: str = "small"):
    config = base(models.section("skeleton", variant))
    config.data.resize = 16
    config.data.pixel_range = (-1.0, 1.0)
    config.train.batch_size = 32
    config.train.length = "10 epochs"
    config.augment.translate = 1.0
    config.optimizer.name = "adamw"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.01
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 2e-3
    config.schedule.warmup = "1 epoch"
    config.mesh.devices = 1  # small batches of a small network
    return config
