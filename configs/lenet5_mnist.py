"""LeNet-5 on MNIST, as in the paper.

Paper: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the
IEEE 1998, sections II-B and III: 20 passes over 60,000 digits, one at a time in one fixed random order; diagonal
Levenberg-Marquardt step sizes, estimated on 500 digits before each pass; the loss of equation 9.
Data: python -m common.prepare --dataset=mnist --data_dir=DIR, then --config.data.directory=DIR
Command: python -m common.main --config=configs/lenet5_mnist.py --config.data.directory=DIR
Deviations: initial weights are U(+-2.4/sqrt(F)), not appendix A's U(+-2.4/F) (`--config.model.weight_init=uniform`).
With the paper's, the network is nearly silent when the curvature is first measured. The steps are then far too long,
and the error stays at 90%. lenet/README.md lists our choices where the paper is silent.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("lenet", "lenet5"))
    config.data.source = "tfds:mnist"
    config.data.pad = 2
    config.data.pixel_range = (-0.1, 1.175)
    config.data.shuffle = "once"
    config.train.batch_size = 1
    config.train.steps_per_call = 1000  # a step takes a tenth of a millisecond: do not return to Python after each
    config.train.length = "20 epochs"
    config.optimizer.name = "diagonal_levenberg_marquardt"
    config.schedule.name = "piecewise"
    config.schedule.boundaries = ("2 epochs", "5 epochs", "8 epochs", "12 epochs")
    config.schedule.rates = (5e-4, 2e-4, 1e-4, 5e-5, 1e-5)
    config.mesh.devices = 1  # one image at a time
    return config
