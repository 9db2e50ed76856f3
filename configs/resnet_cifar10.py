"""ResNets and plain networks of 6n + 2 layers on CIFAR-10, with the paper's recipe.

Paper: He, Zhang, Ren, Sun 2016, section 4.2 and Table 6.
Data: python -m common.prepare --dataset=cifar10 --data_dir=DIR, then --config.data.directory=DIR; or, for images in
PATH/train/<class>/ and PATH/test/<class>/, --config.data.source=folder:PATH
Command: python -m common.main --config=configs/resnet_cifar10.py:resnet20 --config.data.directory=DIR
Variants: resnet20, 32, 44, 56, 110, 1202 and plain20, 32, 44, 56, 110; for another n,
--config.model.stage_sizes="(n, n, n)"
Expected: test errors of 8.75, 7.51, 7.17, 6.97 and 6.61 +- 0.16% for resnet20 to resnet110.
Recipe: the mean image subtracted, 4 pixels of zeros at each side, random crops, mirror images.
Deviations: trains on all 50,000 images, as the paper's final figures may have (it chose its schedule on 45,000).
"""

from common import models
from common.config import base


def get_config(variant: str = "resnet20"):
    config = base(models.section("resnet", variant, batch_groups=2))  # "on two GPUs"
    config.data.source = "tfds:cifar10"
    config.data.normalize = "pixels"
    config.data.std = (1.0,)
    config.augment.mirror = True
    config.augment.crop_pad = 4
    config.train.batch_size = 128
    config.train.length = "64000 steps"
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "piecewise"
    config.schedule.boundaries = ("32000 steps", "48000 steps")
    config.schedule.rates = (0.1, 0.01, 0.001)
    if variant.endswith("110"):
        # "0.1 is slightly too large to start converging": 0.01 until the training error is below 80%.
        config.schedule.boundaries = ("400 steps", *config.schedule.boundaries)
        config.schedule.rates = (0.01, *config.schedule.rates)
    return config
