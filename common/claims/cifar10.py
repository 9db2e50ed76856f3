"""CIFAR-10's colour statistics, for experiments with random crops, whose images are never all in memory."""

# Of the 50,000 training images, 0 to 255: red, green, blue.
COLOURS = {"data.mean": (125.3, 123.0, 113.9), "data.std": (63.0, 62.1, 66.7)}
