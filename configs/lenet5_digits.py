"""LeNet-5 with the paper's recipe on the bundled handwritten digits: the first thing to run.

Paper: LeCun, Bottou, Bengio, Haffner 1998, sections II-B and III; the recipe is that of `lenet5_mnist`.
Data: scikit-learn's 1,797 digits of 8x8 pixels, a fifth held out for testing; enlarged to 28x28, padded to 32x32.
Command: python -m common.main --config=configs/lenet5_digits.py
Deviations: the data; and the distortions are on, since there are only 1,438 images to learn from.
"""

from configs import lenet5_mnist_distortions


def get_config():
    config = lenet5_mnist_distortions.get_config()
    config.data.source = "digits"
    config.data.resize = 28
    return config
