"""AlexNet: the two-column network of 2012, its one-column successor, and its author's networks for CIFAR-10."""

IS_FAMILY = True
