"""GoogLeNet on ImageNet: the paper's network, or the one with batch normalisation for the argument ':googlenet_bn'.

Paper: Szegedy et al. 2014, sections 5 and 6. It does not give the batch size, the learning rate or the weight decay;
ours are those of Caffe's replication.
Data: TFDS imagenet2012, prepared as docs/data.md says, or --config.data.source=folder:PATH
Command: python -m common.main --config=configs/googlenet_imagenet.py[:googlenet_bn] --config.data.directory=DIR
Recipe: batch 32, momentum 0.9, 250 epochs, learning rate 0.01, multiplied by 0.96 every 8 epochs, weight decay 2e-4,
averaged weights, dropout 0.4 and 0.7, auxiliary losses times 0.3; crops of 8% to 100% of the image at aspect ratios of
3/4 to 4/3, mirror images, the mean colour subtracted. With batch normalisation: batch 256, learning rate 0.1, cosine
schedule, 90 epochs.
Paper's result: 10.07% top-5 error, one network, centre crop. Caffe's replication: 31.3% top-1, 11.1% top-5.
Test: one centre crop; the paper's 144 are --mode=evaluate --protocol=googlenet_144.
Deviations: no photometric distortions; always bilinear interpolation, where the paper draws one of four methods.
"""

from common import models
from common.config import base


def get_config(variant: str = "googlenet"):
    config = base(models.section("googlenet", variant))
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.channels = 3
    config.data.resize = 256
    config.data.crop = 224
    config.data.train_crop = "area"
    config.data.normalize = "channels"
    config.data.workers = 16
    config.augment.mirror = True
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.decay_mask = "kernels"
    if config.model.batch_norm:
        config.data.mean = (123.675, 116.28, 103.53)
        config.data.std = (58.395, 57.12, 57.375)
        config.train.batch_size = 256
        config.train.length = "90 epochs"
        config.optimizer.weight_decay = 1e-4
        config.schedule.name = "cosine"
        config.schedule.learning_rate = 0.1
        config.schedule.warmup = "5 epochs"
    else:
        config.data.mean = (123.0, 117.0, 104.0)  # Caffe's
        config.data.std = (1.0,)
        config.train.batch_size = 32
        config.train.length = "250 epochs"
        config.optimizer.weight_decay = 2e-4
        config.optimizer.ema = 0.9999
        config.schedule.name = "table"
        config.schedule.rates = tuple(0.01 * 0.96 ** (epoch // 8) for epoch in range(250))
    return config
