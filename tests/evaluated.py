"""The digits' test set evaluated in batches of several sizes on all devices, as JSON: `python -m tests.evaluated`."""

import json

import jax
import jax.numpy as jnp

from common import models
from common.data import datasets
from common.devices import mesh
from common.training.evaluate import compile_eval_step, evaluate
from configs import lenet5_folder


def main():
    """For each size of the batches: the means, and the counts of each class."""
    config = lenet5_folder.get_config()
    config.data.source, config.mesh.devices = "digits", 0
    dataset = datasets.load(config.data)
    classifier = models.make_classifier(config.model, dataset.info)
    variables = jax.jit(classifier.module.init)(jax.random.key(0), jnp.zeros((1, *classifier.input_shape)))
    step = compile_eval_step(classifier, config.data)
    devices = mesh.make_mesh(config.mesh)
    tested = (evaluate(step, variables, dataset.test, size, devices) for size in (1000, 100, 7))
    return [{**values, "classes": counts.tolist()} for values, counts in tested]


if __name__ == "__main__":
    print(json.dumps(main()))
