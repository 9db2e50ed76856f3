"""ResNet-50 on ImageNet in large batches, with linear scaling of the learning rate and gradual warm-up.

Paper: Goyal et al. 2017, "Accurate, Large Minibatch SGD", sections 2 and 5.1.
Data: as in `resnet_imagenet`.
Command: python -m common.main --config=configs/resnet_imagenet_goyal.py:8192 --config.data.directory=DIR
Argument: the batch size, 256 to 8,192 in the paper; the learning rate is 0.1 for every 256 images in it.
Expected: centre-crop top-1 errors of 23.60 +- 0.12% at 256 and 23.74 +- 0.09% at 8,192.
Hardware: the paper used 256 P100 GPUs for an hour, at 8,192.
Deviations: the classifier's bias does not decay; in the paper it does, and only the normalisations' scales and shifts
do not.
"""

from common import models
from common.errors import UserError
from configs import resnet_imagenet

PER_GPU = 32  # images that share batch statistics


def get_config(batch_size: str = "256"):
    if not batch_size.isdecimal() or int(batch_size) < 1 or int(batch_size) % PER_GPU:
        raise UserError(f"the config's argument is '{batch_size}'; expected a batch size, a multiple of {PER_GPU}")
    changes = {"fc_init": "normal", "batch_groups": int(batch_size) // PER_GPU}
    config = resnet_imagenet.shared_options(models.section("resnet", "resnet50_modern", **changes))
    resnet_imagenet.with_area_crops(config)
    config.train.batch_size = int(batch_size)
    config.train.length = "90 epochs"
    config.optimizer.name = "nesterov"
    config.optimizer.decay_mask = "kernels"  # not on the normalisations' scales and shifts
    config.schedule.name = "piecewise"
    rate = 0.1 * int(batch_size) / 256
    config.schedule.boundaries = ("30 epochs", "60 epochs", "80 epochs")
    config.schedule.rates = (rate, rate / 10, rate / 100, rate / 1000)
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_from = min(0.1, rate)
    return config
