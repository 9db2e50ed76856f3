"""GoogLeNet (2014): Inception modules and auxiliary classifiers."""

IS_FAMILY = True
