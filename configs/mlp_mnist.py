"""Fully connected networks on MNIST; the argument gives the units of the hidden layers, such as '300' or '300-100'.

Paper: LeCun, Bottou, Bengio, Haffner 1998, section III-C: 4.7% test error with 300 hidden units, 4.5% with 1,000 and
3.05% with 300 and 100, without distortions.
Data: python -m common.prepare --dataset=mnist --data_dir=DIR, then --config.data.directory=DIR
Command: python -m common.main --config=configs/mlp_mnist.py[:300] --config.data.directory=DIR
Recipe: ours, since the paper gives none: place-coded targets and mean squared error, batch 50, momentum, a cosine
schedule, 20 epochs, initial weights from U(+-2.4/sqrt(F)). To add the distortions of `lenet5_mnist_distortions`, set
the options of `augment`.
"""

from common import models
from common.config import base
from common.errors import UserError


def get_config(hidden: str = "300"):
    layers = hidden.split("-")
    if not all(layer.isdecimal() for layer in layers):
        raise UserError(
            f"the config's argument is '{hidden}'; expected the units of each hidden layer, such as 300-100"
        )
    units = tuple(map(int, layers))
    config = base(models.section("lenet", "mlp", hidden=units, weight_init="uniform_sqrt"))
    config.data.source = "tfds:mnist"
    config.data.pixel_range = (-0.1, 1.175)
    config.train.batch_size = 50
    config.train.steps_per_call = 100
    config.train.length = "20 epochs"
    config.evaluate.every = "5 epochs"
    config.checkpoint.every = "5 epochs"
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.05
    config.mesh.devices = 1
    return config
