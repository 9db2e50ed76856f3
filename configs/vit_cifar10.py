"""A small Vision Transformer on CIFAR-10 from scratch, at the cost of a ResNet-20, which wins on so little data.

Network: five blocks of width 96 on 64 patches of 4x4 pixels, with 39.6 million multiply-adds an image. The ResNet-20 of
`resnet_cifar10` has 40.6 million, and the same batch, steps and augmentation.
Data: python -m common.prepare --dataset=cifar10 --data_dir=DIR, then --config.data.directory=DIR; or, for images in
PATH/train/<class>/ and PATH/test/<class>/, --config.data.source=folder:PATH
Command: python -m common.main --config=configs/vit_cifar10.py --config.data.directory=DIR
Recipe: ours, after Beyer, Zhai and Kolesnikov 2022.
"""

from common import models
from common.config import base


def get_config():
    size = {"hidden_size": 96, "mlp_dim": 384, "num_heads": 3, "depth": 5}
    config = base(models.section("vit", "nano4", **size, pooling="average", position="sincos2d"))
    config.data.source = "tfds:cifar10"
    config.data.pixel_range = (-1.0, 1.0)
    config.augment.mirror = True
    config.augment.crop_pad = 4
    config.train.batch_size = 128
    config.train.length = "64000 steps"
    config.optimizer.name = "adamw"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 1e-3
    config.schedule.warmup = "2000 steps"
    return config
