"""CIFAR-10's colours, for experiments whose images are cut anew in each epoch and never in memory as a whole."""

# Of the 50,000 training images, 0 to 255: red, green, blue.
COLOURS = {"data.mean": (125.3, 123.0, 113.9), "data.std": (63.0, 62.1, 66.7)}
