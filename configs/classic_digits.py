"""A classic pipeline on the bundled handwritten digits: the first one to run.

Data: scikit-learn's 1,797 digits of 8x8 pixels, a fifth held out for testing; enlarged to 32x32.
Command: python -m classic.main --config=configs/classic_digits.py:fisher
Pipelines: the names of classic.config.PIPELINES, and other parts in place of their own, as in fisher+knn.
"""

from classic.config import base


def get_config(pipeline: str = "fisher"):
    return base(pipeline)
