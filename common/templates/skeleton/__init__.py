"""Skeleton: a small convolutional network to begin with."""

IS_FAMILY = True
