"""Losses of a few updates on a mesh of simulated devices, printed as JSON: `python -m tests.modes NETWORK MODE ...`.

The modes are one device, data parallel, fully sharded, and both on a two-axis mesh.
"""

import functools
import json
import sys

import jax

from common import models
from common.config import base
from common.data import augment, datasets, pipeline
from common.devices import mesh, sharding
from common.optim.optimizers import make_optimizer
from common.training.state import create_state
from common.training.steps import compile_update, step_options
from common.training.totals import no_totals

MODES = {"one device": (1, 1), "data": (8, 1), "fsdp": (8, 8), "data and fsdp": (8, 4)}
NETWORKS = {
    "lenet": ("lenet", "lenet5_modern", {}),
    "alexnet": ("alexnet", "small", {"widths": (16, 16, 16, 16, 16), "fc_width": 64}),
    "vgg": ("vgg", "vgg11_bn", {"width": 8, "fc_width": 64}),
    "googlenet": ("googlenet", "googlenet_small", {"width": 0.125, "batch_norm": False}),  # compiles sooner
    "resnet": ("resnet", "resnet20", {"stage_sizes": (1, 1, 1)}),
    "resnet, groups, scan, remat": (
        "resnet",
        "resnet20",
        {"stage_sizes": (3, 1, 1), "batch_groups": 2, "scan": "on", "remat": True},
    ),
    "vit": ("vit", "nano4", {"depth": 2, "dropout": 0.1}),
    "vit, remat": ("vit", "nano4", {"depth": 2, "remat": "blocks"}),
}
STEPS = 3


def config_of(name):
    """A config that trains this network on a few digits."""
    family, variant, changes = NETWORKS[name]
    config = base(models.section(family, variant, **changes))
    config.data.resize = 32 if family in ("alexnet", "lenet", "vgg") else 16
    config.data.limit = 64
    config.train.batch_size = 16
    config.train.accumulate = 2 if name == "vit" else 1
    config.optimizer.ema = 0.9
    config.optimizer.momentum = 0.9
    config.schedule.learning_rate = 0.002  # small enough that rounding does not grow
    return config


def losses(config, modes):
    """For each mode: the mean loss of each update, and the bytes of parameters and optimizer state on each device."""
    dataset = datasets.load(config.data)
    classifier = models.make_classifier(config.model, dataset.info)
    optimizer, _ = make_optimizer(config, len(dataset.train))
    transform = augment.make_input_transform(config.data, config.augment)
    fixed = {"classifier": classifier, "optimizer": optimizer, "transform": transform, **step_options(config)}
    averaged = config.optimizer.ema > 0
    start = jax.device_get(jax.jit(functools.partial(create_state, classifier, optimizer, config.seed, averaged))())
    return {mode: _losses(config, dataset, fixed, start, *MODES[mode]) for mode in modes}


def _losses(config, dataset, fixed, start, devices, fsdp):
    config.mesh.devices, config.mesh.fsdp = devices, fsdp
    grid = mesh.make_mesh(config.mesh)
    state = jax.device_put(start, sharding.shardings(start, grid))
    with sharding.split_activations(grid):
        feed = pipeline.train_feed(
            dataset.train,
            grid,
            0,
            batch_size=config.train.batch_size,
            seed=config.seed,
            shuffle=config.data.shuffle,
            workers=config.data.workers,
        )
        update = compile_update(feed.select, grid, **fixed)
        found = []
        for number in range(STEPS):
            sums = mesh.replicate(no_totals(), grid)
            state, sums = update(state, sums, feed.take(number, 1, 1), 1)
            found.append(float(sums.loss) / config.train.batch_size)
    held = (state.params, state.opt_state)
    shards = [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(held)]
    assert sum(shards) == sharding.bytes_per_device(held, grid)
    return {"losses": found, "bytes": sum(shards)}


if __name__ == "__main__":
    print(json.dumps(losses(config_of(sys.argv[1]), sys.argv[2:])))
