"""LeNet-5 on MNIST as in today's tutorials: ReLU, max pooling, full C3, softmax, AdamW.

Network: the variant of 61,706 parameters, in which every historic part is replaced; see lenet/README.md.
Data: python -m common.prepare --dataset=mnist --data_dir=DIR, then --config.data.directory=DIR
Command: python -m common.main --config=configs/lenet5_mnist_modern.py --config.data.directory=DIR
Recipe: ours; batch 128, cosine schedule with one epoch of warm-up, small shifts and distortions.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("lenet", "lenet5_modern"))
    config.data.source = "tfds:mnist"
    config.data.pad = 2
    config.train.batch_size = 128
    config.train.length = "20 epochs"
    config.augment.translate = 2.0
    config.augment.scale = 0.1
    config.augment.shear = 0.1
    config.optimizer.name = "adamw"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.01
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 3e-3
    config.schedule.warmup = "1 epoch"
    return config
