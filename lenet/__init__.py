"""LeNet: the 1989 zip-code network and LeNet-5 (1998)."""

IS_FAMILY = True
