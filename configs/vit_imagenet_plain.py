"""A plain Vision Transformer on ImageNet in 90 epochs: average pooling, sine-cosine positions, batch 1024.

Paper: Beyer, Zhai, Kolesnikov 2022, "Better plain ViT baselines for ImageNet-1k".
Data: TFDS imagenet2012, prepared as docs/data.md says. 1% of its training set is left out as a hold-out set.
Command: python -m common.main --config=configs/vit_imagenet_plain.py:s16 --config.data.directory=DIR
Longer: --config.train.length="150 epochs" or "300 epochs"
Plainer: --config.augment.randaugment_layers=0 --config.augment.mixup=0
Expected: top-1 error 23.5% (150 epochs 21.5%, 300 epochs 20.0%); 26.4% without RandAugment and mixup.
Deviations: bfloat16 computation. An image is shrunk by averaging the pixels that are merged; the paper's code takes the
nearest ones. RandAugment's contrast is relative to the image's mean, as in Pillow; in that code it is relative to a
constant.
"""

from common import models
from common.config import base


def get_config(variant: str = "s16"):
    model = models.section("vit", variant, pooling="average", position="sincos2d", dtype="bfloat16")
    model.representation_size = model.hidden_size
    config = base(model)
    config.data.source = "tfds:imagenet2012"
    config.data.train_split = "train[:99%]"
    config.data.test_split = "validation"
    config.data.resize = 256
    config.data.crop = 224
    config.data.train_crop = "area"
    config.data.area = (0.05, 1.0)
    config.data.pixel_range = (-1.0, 1.0)
    config.data.workers = 16
    config.augment.mirror = True
    config.augment.randaugment_layers = 2
    config.augment.randaugment_magnitude = 10.0
    config.augment.mixup = 0.2
    config.train.batch_size = 1024
    config.train.length = "90 epochs"
    config.optimizer.name = "adamw"
    config.optimizer.moment_dtype = "bfloat16"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.1  # 1e-4 in the paper's convention, without the learning rate as a factor
    config.optimizer.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 1e-3
    config.schedule.warmup = "10000 steps"
    return config
