"""VGG on ImageNet with the paper's recipe; the argument names the network.

Paper: Simonyan and Zisserman 2014, section 3.1. Variants: 'vgg11' (A) to 'vgg19' (E); with '_bn', torchvision's.
Data: TFDS imagenet2012, prepared as docs/data.md says, or --config.data.source=folder:PATH
Command: first `python -m common.statistics`, then `python -m common.main`, both with
    --config=configs/vgg_imagenet.py[:vgg16] --config.data.directory=DIR
Recipe: batch 256, momentum 0.9, weight decay 5e-4, dropout 0.5; learning rate 0.01, divided by ten three times in 74
epochs (when the validation error stalls in the paper, here after 30, 50 and 65). The mean colour is subtracted. Random
crops of 224 from images whose shorter side is 256, mirror images, colour shifts.
Initial weights: A starts from normal weights of sd 0.01. The deeper nets start from He's initialisation. The paper
starts them from a trained A, and so with A's scale of pixels: --config.init.checkpoint=DIR --config.data.std="(1.0,)"
--config.model.weight_init=gaussian
Other scales of the paper: --config.data.resize=384, or --config.data.resize_max=512 for random ones. The paper starts
the net for 384 from that for 256, at a learning rate of 0.001, and the net for random scales from that for 384.
Paper's result: 27.0% top-1 and 8.8% top-5 error for D at one scale of 256 pixels, dense.
Test: one centre crop; the paper's tests are --mode=evaluate --protocol=dense (or multi_scale, multi_crop, combined).
Deviations: for nets that start from He's initialisation, colours are also divided by their standard deviations. Colour
shifts are those of `alexnet_imagenet`.
"""

from common import models
from common.config import base


def get_config(variant: str = "vgg16"):
    is_a = variant in ("vgg11", "vgg11_lrn")
    config = base(models.section("vgg", variant, weight_init="gaussian" if is_a else "he_fan_out"))
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.channels = 3
    config.data.resize = 256
    config.data.crop = 224
    config.data.train_crop = "random"
    config.data.normalize = "channels"
    # A's small initial weights expect grey levels. He's keep the scale of their inputs, so they expect values near 1.
    config.data.std = (1.0,) if is_a else ()
    config.data.workers = 16
    config.augment.mirror = True
    config.augment.pca_colour = 0.1
    config.train.batch_size = 256
    config.train.length = "74 epochs"
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_mask = "kernels"
    config.schedule.name = "piecewise"
    config.schedule.boundaries = ("30 epochs", "50 epochs", "65 epochs")
    config.schedule.rates = (1e-2, 1e-3, 1e-4, 1e-5)
    return config
