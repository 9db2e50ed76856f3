"""AlexNet on ImageNet, with the paper's network and recipe.

Paper: Krizhevsky, Sutskever, Hinton 2012; the two-column network of section 3.5, sections 4 and 5.
Data: TFDS imagenet2012, prepared as docs/data.md says, or --config.data.source=folder:PATH
Command: first `python -m common.statistics`, then `python -m common.main`, both with
    --config=configs/alexnet_imagenet.py --config.data.directory=DIR
Recipe: batch 128, momentum 0.9, weight decay 0.0005, dropout 0.5, the learning rate inside the velocity. The rate of
0.01 is divided by ten three times in 90 epochs. The paper did that by hand and does not say when; here it is after 30,
60 and 80. The mean image is subtracted. Pixels stay on the scale of 0..255, which the constants of the normalisation
and the initialisation expect. Random crops of 224 from images of 256, mirror images, colour shifts along principal
components.
Paper's result: 40.7% top-1 and 18.2% top-5 error on the validation set, one network, ten views (Table 2).
Test: one centre crop; the paper's test is --mode=evaluate --protocol=ten_crop.
Deviations: training crops come from the whole photograph at a shorter side of 256, not from its centre square. As in
the author's code, the mean image's centre is subtracted from every crop, and colour shifts grow with the roots of the
eigenvalues. Only weights decay, as in Caffe; the paper just says "weight decay".
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("alexnet", "two_column"))
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.channels = 3
    config.data.resize = 256
    config.data.crop = 224
    config.data.train_crop = "random"
    config.data.normalize = "pixels"
    config.data.std = (1.0,)
    config.data.workers = 16
    config.augment.mirror = True
    config.augment.pca_colour = 0.1
    config.train.batch_size = 128
    config.train.length = "90 epochs"
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 0.0005
    config.optimizer.decay_mask = "kernels"
    config.schedule.name = "piecewise"
    config.schedule.boundaries = ("30 epochs", "60 epochs", "80 epochs")
    config.schedule.rates = (1e-2, 1e-3, 1e-4, 1e-5)
    return config
