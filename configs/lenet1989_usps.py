"""The 1989 zip-code network on USPS digits.

Paper: LeCun, Boser, Denker, Henderson, Howard, Hubbard, Jackel, "Backpropagation Applied to Handwritten Zip Code
Recognition", Neural Computation 1989: 23 passes over 7,291 digits, one at a time in constant order; mean squared error
on place-coded targets; a pseudo-Newton step with a positive diagonal estimate of the Hessian.
Data: python -m common.prepare --dataset=usps --data_dir=DIR --manual_dir=FOLDER_OF_ZIP_FILES
Command: python -m common.main --config=configs/lenet1989_usps.py --config.data.directory=DIR
Recipe: as the paper states it. It gives no learning rate and no mu; a search on a validation set chose both
(results/tune_lenet1989_usps.json has the command and the errors).
The public USPS files have as many digits as the paper's sets, but are described as deslanted.
"""

from common import models
from common.config import base


def get_config():
    config = base(models.section("lenet", "lenet1989"))
    config.data.source = "tfds:usps"
    config.data.pixel_range = (-1.0, 1.0)
    config.data.shuffle = "once"  # the constant order is drawn from the seed
    config.train.batch_size = 1
    config.train.steps_per_call = 1000
    config.train.length = "23 epochs"
    config.optimizer.name = "diagonal_levenberg_marquardt"
    config.optimizer.mu = 0.12
    config.schedule.name = "constant"
    config.schedule.learning_rate = 0.0011
    config.mesh.devices = 1
    return config
