"""A classic pipeline on CIFAR-10.

Papers: Coates, Lee, Ng, "An analysis of single-layer networks in unsupervised feature learning", AISTATS 2011
(kmeans); those of classic/config.py for the others.
Data: python -m common.prepare --dataset=cifar10 --data_dir=DIR, then --config.data.directory=DIR; or, for images in
PATH/train/<class>/ and PATH/test/<class>/, --config.data.source=folder:PATH
Command: python -m classic.main --config=configs/classic_cifar10.py:kmeans --config.data.directory=DIR
Pipelines: the names of classic.config.PIPELINES, perhaps with parts that replace their own, as in bow+pyramid1.
Expected: 22.1% test error for kmeans on the original CIFAR-10 (Coates 2011, Table 2, 1,600 features).
Deviations: a pyramid has two levels, not three, since images have 32 x 32 pixels. sift_svm describes squares at 3 x 3
places, as on MNIST; all 169 places would give 21,632 numbers, and the machine would take an hour to fit.
"""

from classic.config import adapt, base

# The sample is small, since nothing is learnt from it.
SIFT_SVM = {"describe.sizes": (32,), "describe.step": 16, "encode.sample": 1000}

CHANGES = {
    "sift": {"describe.scale": 4},
    "hog": {"describe.cell": 4},
    "sparse": {"encode.words": 512},
}


def get_config(pipeline: str = "kmeans"):
    config = base(pipeline)
    config.data.source = "tfds:cifar10"
    if config.pool.layout == "pyramid2" and "+pyramid2" not in pipeline:
        config.pool.layout = "pyramid1"
    adapt(config, CHANGES)
    if pipeline == "sift_svm":
        config.update_from_flattened_dict(SIFT_SVM)
    return config
