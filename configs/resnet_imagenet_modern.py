"""ResNets on ImageNet as people train them today: label smoothing, mixup, cosine schedule, averaged weights.

Recipe: crops and optimizer of Goyal et al. 2017, a cosine schedule, label smoothing (Szegedy et al. 2016), mixup (Zhang
et al. 2018, with their value for ImageNet), an exponential average of the weights, which evaluation uses, and bfloat16
computation.
Expected: no result is published for exactly this recipe. Flax's ImageNet example reports 23.3 to 23.6% top-1 error (4.4
hours on a TPU v3-8). It has LeCun's initial weights, bicubic crops, and no smoothing, mixup or averages.
Data: as in `resnet_imagenet`.
Command: python -m common.main --config=configs/resnet_imagenet_modern.py:resnet50_modern --config.data.directory=DIR
"""

from common import models
from configs import resnet_imagenet


def get_config(variant: str = "resnet50_modern"):
    config = resnet_imagenet.shared_options(models.section("resnet", variant, dtype="bfloat16"))
    resnet_imagenet.with_area_crops(config)
    config.train.batch_size = 1024
    config.train.length = "100 epochs"
    config.train.label_smoothing = 0.1
    config.augment.mixup = 0.2
    config.optimizer.name = "nesterov"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.ema = 0.9999
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.4  # 0.1 for every 256 images
    config.schedule.warmup = "5 epochs"
    return config
