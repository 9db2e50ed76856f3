"""GoogLeNet (2014): Inception modules and auxiliary classifiers."""
