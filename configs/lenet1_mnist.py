"""LeNet-1 on MNIST, with digits of 16x16 pixels at the centre of 28x28.

Paper: LeCun, Bottou, Bengio, Haffner 1998, section III-C: LeNet-1 has 1.7% test error on images of 16x16 pixels.
Data: python -m common.prepare --dataset=mnist --data_dir=DIR, then --config.data.directory=DIR
Command: python -m common.main --config=configs/lenet1_mnist.py --config.data.directory=DIR
Recipe: 20 passes, one digit at a time in one fixed random order, as for LeNet-5. The paper gives no learning rates for
the loss of this network. Ours is the best of 0.001, 0.003, 0.01 and 0.03 on a validation set (four passes over 10,200
digits), tried with mu 0.02 and 0.1. It falls along a cosine. Initial weights are U(+-2.4/sqrt(F)), as in
`lenet5_mnist`. MNIST's images are reduced from 28x28 to 22x22 pixels, and so their digits from 20x20 to 16x16.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("lenet", "lenet1", weight_init="uniform_sqrt"))
    config.data.source = "tfds:mnist"
    config.data.resize = 22
    config.data.pad = 3
    config.data.pixel_range = (-1.0, 1.0)
    config.data.shuffle = "once"
    config.train.batch_size = 1
    config.train.steps_per_call = 1000
    config.train.length = "20 epochs"
    config.optimizer.name = "diagonal_levenberg_marquardt"
    config.optimizer.mu = 0.02
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.003
    config.mesh.devices = 1
    return config
