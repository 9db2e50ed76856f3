"""Skeleton: a small convolutional network to start from."""

IS_FAMILY = True
