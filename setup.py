"""Lineage: the image classifiers of a first deep-learning lecture, in JAX and Flax.

A checkout is installed with `pip install -e .` and in no other way: .ci/checkout_only.py refuses the rest in one line.
"""

from setuptools import find_packages, setup

CLASSIC = ["opencv-python-headless", "scikit-image"]
TUNE = ["optuna"]
EXPORT = ["jax2onnx", "onnx", "onnxruntime"]
TENSORFLOW = ["tensorflow-cpu"]

setup(
    name="lineage",
    version="0.2.0",
    description="LeNet to ViT: faithful networks and recipes that run, change, measure and check against their papers",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
    packages=find_packages(exclude=("tests", "tests.*", "runs", "results")),
    install_requires=[
        "absl-py",
        "flatbuffers",  # jax.export writes StableHLO files with it
        "flax",
        "grain",
        "importlib_resources",  # tensorflow-datasets imports it without asking for it
        "jax",
        "jaxtyping",
        "matplotlib",
        "ml-collections",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "pyarrow",
        "safetensors",
        "scikit-learn",
        "tensorboardX",
        "tensorflow-datasets",
        "tqdm",
    ],
    extras_require={
        "gpu": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        # TensorFlow is needed to *prepare* a TFDS dataset and never to train on it.
        "prepare": TENSORFLOW,
        # Corners, SIFT and HOG of the pipeline before deep networks, in classic/.
        "classic": CLASSIC,
        # The search of common/tune.py.
        "tune": TUNE,
        # Trackers beside TensorBoard, config.tracker.
        "wandb": ["wandb"],
        "mlflow": ["mlflow"],
        # The programs of common/export.py.
        "export": EXPORT,
        "savedmodel": TENSORFLOW,
        "test": [
            *CLASSIC,
            *TUNE,
            "beartype",
            "hypothesis",
            "ipykernel",
            "mypy",
            "nbclient",
            "nbformat",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
        ],
        "docs": ["mkdocs-material", "mkdocstrings[python]", "ruff"],
        "hooks": ["pre-commit", "pre-commit-hooks"],
        "parity": ["torch==2.13.0", *EXPORT, *TENSORFLOW],
        "peers": ["timm==1.0.31", "torchvision==0.28.0", "transformers==5.24.0"],  # of torch 2.13
    },
)
