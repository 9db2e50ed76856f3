"""A very small Vision Transformer on the bundled handwritten digits, which trains anywhere in a minute or two.

Network: six blocks of width 64 on 16 patches of 4x4 pixels, average pooling, sine-cosine positions.
Data: scikit-learn's 1,797 digits of 8x8 pixels, a fifth held out for testing; enlarged to 16x16.
Command: python -m common.main --config=configs/vit_digits.py
Recipe: ours, after Beyer, Zhai and Kolesnikov 2022, with small distortions in place of RandAugment and mixup.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("vit", "nano4", pooling="average", position="sincos2d"))
    config.data.resize = 16
    config.data.pixel_range = (-1.0, 1.0)
    config.train.batch_size = 64
    config.train.length = "60 epochs"
    config.augment.translate = 1.5
    config.augment.scale = 0.1
    config.augment.shear = 0.15
    config.optimizer.name = "adamw"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 2e-3
    config.schedule.warmup = "5 epochs"
    config.evaluate.every = "5 epochs"
    config.checkpoint.every = "20 epochs"
    config.mesh.devices = 1  # small batches of a small network
    return config
