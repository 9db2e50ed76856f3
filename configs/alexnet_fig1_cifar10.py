"""The four-layer network of AlexNet's Figure 1 on CIFAR-10, with ReLUs, or tanh units for the argument ':tanh'.

Paper: Krizhevsky, Sutskever, Hinton 2012, section 3.1 and Figure 1: epochs to a training error of 25%, "no
regularization of any kind", "the learning rates for each network were chosen independently to make training as fast
as possible". The paper does not describe the network; this is the one of the author's 18% recipe, without normalisation
(alexnet/cifar.py).
Data: TFDS cifar10, or a folder of images with --config.data.source=folder:PATH
Command: python -m common.main --config=configs/alexnet_fig1_cifar10.py[:tanh] --config.data.directory=DIR
Recipe: batch 128, momentum 0.9, a constant learning rate, no weight decay, no augmentation. The initial weights are
those of the author's code, which fit grey levels minus the mean image.
Paper's result: ReLU crosses 25% six times sooner than tanh (near epochs 6 and 36, read off the figure).
"""

from common import models
from common.config import base

# The fastest of 0.003 and 0.01 for ReLU, and of 0.003, 0.01 and 0.03 for tanh, in 9 to 15 epochs on 5,000 images.
LEARNING_RATES = {"relu": 3e-3, "tanh": 3e-2}


def get_config(activation: str = "relu"):
    config = base(models.section("alexnet", "fig1_cifar10", activation=activation))
    config.data.source = "tfds:cifar10"
    config.data.normalize = "pixels"
    config.data.std = (1.0,)
    config.train.batch_size = 128
    config.train.length = "10 epochs" if activation == "relu" else "40 epochs"  # the end of the figure's axis
    config.train.log_every = "0.25 epochs"
    config.evaluate.every = "5 epochs"
    config.checkpoint.every = "5 epochs"
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.schedule.name = "constant"
    config.schedule.learning_rate = LEARNING_RATES.get(activation, 3e-3)
    return config
