"""A classic pipeline on MNIST.

Papers: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the
IEEE 1998, section III-C and Figure 9 (knn, pca_quadratic, rbf_svm); those of classic/config.py for the others.
Data: python -m common.prepare --dataset=mnist --data_dir=DIR, then --config.data.directory=DIR
Command: python -m classic.main --config=configs/classic_mnist.py:fisher --config.data.directory=DIR
Pipelines: the names of classic.config.PIPELINES, perhaps with other parts in place of their own, as in bow+pyramid1.
Recipe of rbf_svm: chosen on the last 5,000 training digits, fitted to the first 55,000. With pixels as they are, of
gamma 0.02, 0.025, 0.03 and 0.035 the third has the lowest error with C = 3 (1.38, 1.32, 1.24 and 1.28%), 10 (1.38,
1.28, 1.22 and 1.30%) and 30 (1.34, 1.28, 1.22 and 1.30%). With images of length 1 and C = 10, gamma 1, 1.5, 2.5 and 4
have 1.18, 1.06, 1.18 and 1.32%. The test set had been read twice before that: with scikit-learn's gamma, which is
0.0134 (1.60%), and with 0.03 (1.42%); the recipe that validation chose last has 1.44%, which is the recorded number.
The command, which leaves it unread:
python -m classic.main --config=configs/classic_mnist.py:rbf_svm --config.decode.gamma=1.5 --config.encode.norm=l2
--config.data.train_split='train[:55000]' --config.data.test_split='train[55000:]' --config.data.directory=DIR
Recipe of sift_svm: fitted to 10,000 training digits and judged on 5,000 others, with the same constant C (10), it had
1.02% error; squares of 20 pixels every 12 (gamma 0.25) had 1.22%, HOG with this machine (gamma 0.05) 1.86%. The
command, which leaves the test set unread: python -m classic.main --config=configs/classic_mnist.py:sift_svm
--config.data.train_split='train[:10000]' --config.data.test_split='train[55000:]' --config.data.directory=DIR
Deviations: a pyramid has two levels, not three, since a digit is one small object; digits are not deskewed.
"""

from classic.config import adapt, base

# Squares of half an image's side at 3 x 3 places. Nothing is learnt from the sample, so it is small.
SIFT_SVM = {"describe.sizes": (28,), "describe.step": 14, "decode.gamma": 0.5, "encode.sample": 1000}
RBF_SVM = {"decode.gamma": 1.5, "encode.norm": "l2"}

CHANGES = {
    "sift": {"describe.scale": 4},
    "hog": {"describe.cell": 4},  # of 4, 5, 7 and 8 pixels the best on 5,000 of 20,000 training digits
    "words": {"encode.words": 500},
    "sparse": {"encode.words": 512},
    "llc": {"encode.words": 500},
    "triangle": {"encode.words": 800},
}


def get_config(pipeline: str = "fisher"):
    config = base(pipeline)
    config.data.source = "tfds:mnist"
    if config.pool.layout == "pyramid2" and "+pyramid2" not in pipeline:
        config.pool.layout = "pyramid1"
    adapt(config, CHANGES)
    config.update_from_flattened_dict({"sift_svm": SIFT_SVM, "rbf_svm": RBF_SVM}.get(pipeline, {}))
    return config
