"""AlexNet: the two-column network of 2012, its one-column successor, and the CIFAR-10 networks of its author."""

IS_FAMILY = True
