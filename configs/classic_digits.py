"""A classic pipeline on the bundled handwritten digits: the first one to run.

Data: scikit-learn's 1,797 digits of 8x8 pixels, a fifth held out for testing; enlarged to 32x32 for pipelines that
look at parts of an image.
Command: python -m classic.main --config=configs/classic_digits.py:fisher
Pipelines: the names of classic.config.PIPELINES, perhaps with parts that replace their own, as in fisher+knn.
Deviations: vocabularies are a fifth of the papers' or less, since there are only 1,438 images to learn them from.
"""

from classic.config import adapt, base

CHANGES = {
    "dense_sift": {"describe.scale": 1},
    "sift": {"describe.scale": 4},
    "patches": {"describe.step": 2},
    "words": {"encode.words": 200},
    "fisher": {"encode.components": 16, "encode.pca": 32},
    "sparse": {"encode.words": 128},
    "llc": {"encode.words": 200},
    "triangle": {"encode.words": 200},
}


def get_config(pipeline: str = "fisher"):
    config = base(pipeline)
    if config.describe.name not in ("pixels", "deslanted", "shifts", "tangents"):
        config.data.resize = 32
    return adapt(config, CHANGES)
