"""A small AlexNet on the bundled handwritten digits, which trains anywhere in a minute or two.

Network: alexnet/model.py, variant 'small' with a quarter of its maps.
Data: scikit-learn's 1,797 digits of 8x8 pixels, a fifth held out for testing; enlarged to 32x32.
Command: python -m common.main --config=configs/alexnet_digits.py
Recipe: ours; AdamW, cosine schedule, small shifts and changes of size.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("alexnet", "small", widths=(16, 48, 64, 64, 48), fc_width=256))
    config.data.resize = 32
    config.data.pixel_range = (-1.0, 1.0)
    config.train.batch_size = 32
    config.train.length = "15 epochs"
    config.augment.translate = 2.0
    config.augment.scale = 0.1
    config.optimizer.name = "adamw"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.01
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 1e-3
    config.schedule.warmup = "1 epoch"
    config.mesh.devices = 1  # small batches of a small network
    return config
