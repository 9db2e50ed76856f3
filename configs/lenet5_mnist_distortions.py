"""LeNet-5 on MNIST with the paper's random distortions.

Paper: LeCun, Bottou, Bengio, Haffner 1998, section III-B: nine in ten presentations show a distorted copy (540,000
distorted digits beside 60,000 originals, each seen about twice). Everything else is as in `lenet5_mnist`.
Data: python -m common.prepare --dataset=mnist --data_dir=DIR, then --config.data.directory=DIR
Command: python -m common.main --config=configs/lenet5_mnist_distortions.py --config.data.directory=DIR
Deviations: a digit is distorted anew each time it is shown, instead of drawn from 540,000 stored copies. The ranges are
ours, since the paper gives none, and so is mu (0.02 in the paper). They are the best of 24 trials on a validation set
of 9,000 training digits. Each trial made 8 passes over 15,000 digits: results/tune_lenet5_distortions_mnist.json.
"""

from configs import lenet5_mnist

# Translations are in pixels; common/data/transforms.py explains the other ranges.
RANGES = {"probability": 0.9, "translate": 1.44, "scale": 0.274, "squeeze": 0.099, "shear": 0.371}


def get_config():
    config = lenet5_mnist.get_config()
    config.augment.update(RANGES)
    config.optimizer.mu = 0.1
    return config
