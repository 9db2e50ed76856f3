"""VGG on ImageNet with the paper's recipe; the argument names the network.

Paper: Simonyan and Zisserman 2014, section 3.1. Variants 'vgg11' (A) to 'vgg19' (E), with '_bn' torchvision's.
Data: TFDS imagenet2012, prepared as docs/data.md says.
Command: python -m common.main --config=configs/vgg_imagenet.py[:vgg16] --config.data.directory=DIR
Recipe: batch 256, momentum 0.9, decay 5e-4, dropout 0.5, rate 0.01 divided by ten three times in 74 epochs (when the
validation error stalls; here at 30, 50 and 65). A starts from N(0, sd 0.01); the deeper nets, which the paper starts
from a trained A (`vgg.weights.from_trained_a`), from He's initialisation.
Paper's result: 27.0% top-1 and 8.8% top-5 error for D at one scale of 256 pixels, dense.
Deviates: one mean and deviation for all colours, where the paper subtracts the mean colour and divides by nothing;
images are resized to 224 and shifted by up to 16 pixels, where the paper crops 224 from 256 or more; no colour
shifts; the test is one centre crop.
"""

from common import models
from common.config import base


def get_config(variant: str = "vgg16"):
    is_a = variant in ("vgg11", "vgg11_lrn")
    config = base(models.section("vgg", variant, weight_init="gaussian" if is_a else "he_fan_out"))
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.resize = 224
    # A small initialisation is made for grey levels, one that keeps the scale for numbers about 1.
    config.data.pixel_range = (-117.3, 137.7) if is_a else (-1.99, 2.44)
    config.data.workers = 16
    config.augment.crop_pad = 16
    config.augment.mirror = True
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
