"""The fully connected network that the 1989 paper compares its own with, on USPS digits: 256-40-10.

Paper: LeCun et al. 1989, section 5: 10,690 weights; the zip-code network has 9,760.
Data: python -m common.prepare --dataset=usps --data_dir=DIR --manual_dir=FOLDER_OF_ZIP_FILES
Command: python -m common.main --config=configs/mlp1989_usps.py --config.data.directory=DIR
Recipe: that of `lenet1989_usps`, with its own learning rate and mu, chosen on a validation set
(results/tune_mlp1989_usps.json has the command and the errors).
"""

from common import models
from configs import lenet1989_usps


def get_config():
    config = lenet1989_usps.get_config()
    config.model = models.section("lenet", "mlp1989", weight_init=config.model.weight_init)
    config.optimizer.mu = 0.67
    config.schedule.learning_rate = 0.0091
    return config
