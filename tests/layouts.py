"""Checkpoints saved on N simulated devices and restored on M: `python -m tests.layouts FOLDER all` prints what differs.

With `some` in place of `all`, every second layout is tried.
"""

import functools
import json
import pathlib
import sys

import jax
import numpy as np
from ml_collections import ConfigDict

from common import models
from common.data import datasets
from common.devices import mesh, sharding
from common.optim.optimizers import make_optimizer
from common.run.checkpoints import Checkpoints, restore_latest, steps
from common.training.state import create_state
from tests.modes import config_of

LAYOUTS = [(1, 1), (2, 1), (4, 2), (8, 1), (8, 8)]  # devices, fsdp


def main(root, layouts):
    """Saves and restores in every pair of these layouts; then sees which of ten checkpoints are kept."""
    config = config_of("lenet")
    config.model = models.section("lenet", "mlp", image_size=32, hidden=(64,))  # few arrays, each as large as one needs
    dataset = datasets.load(config.data)
    classifier = models.make_classifier(config.model, dataset.info)
    optimizer, _ = make_optimizer(config, len(dataset.train))
    fresh = functools.partial(create_state, classifier, optimizer, config.seed, config.optimizer.ema > 0)
    like = jax.eval_shape(fresh)
    grids = {layout: mesh.make_mesh(ConfigDict({"devices": layout[0], "fsdp": layout[1]})) for layout in layouts}
    start = jax.jit(fresh)()
    expected = jax.device_get(start)
    wrong = []
    for saved, grid in grids.items():
        with Checkpoints(root / f"{saved}") as checkpoints:
            checkpoints.save(1, sharding.make_sharded(fresh, grid), None)
            checkpoints.wait()
            for restored, other in grids.items():
                state = restore_latest(root / f"{saved}", like, other)
                same = jax.tree.map(lambda a, b: np.array_equal(a, np.asarray(b)), expected, state)
                placed = jax.tree.map(lambda a, b: a.sharding == b, state, sharding.shardings(like, other))
                if not (all(jax.tree.leaves(same)) and all(jax.tree.leaves(placed))):
                    wrong.append((saved, restored))
    with Checkpoints(root / "kept", keep=2, keep_every=4) as checkpoints:
        for step in range(1, 11):
            checkpoints.save(step, start, 0.1 if step == 3 else 0.2)
        checkpoints.wait()
        kept = steps(root / "kept")
    return {"wrong": wrong, "kept": kept}


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]), {"all": LAYOUTS, "some": LAYOUTS[::2]}[sys.argv[2]])))
