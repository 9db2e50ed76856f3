"""Describes the layers of a network: `python -m common.inspect --config=configs/lenet5_digits.py`.

Prints each layer's output shape, how many rows of the image one of its positions sees, its parameters and its
multiply-adds, beside the paper's numbers if the family's `paper.py` has them. Then prints the memory that training
needs. Nothing is computed: the network is only traced.

A family's `paper.py` has

    LAYERS: dict[variant, dict[layer, dict[column, value]]]    the paper's values, see `layer_table.format_table`
    TOTALS: dict[variant, dict[column, value]]                 optional: the same for the whole network
    connections(config.model, params) -> dict[layer, int]      optional: our connections, counted as in the paper
"""

import shutil
import textwrap
from typing import Any

from absl import flags
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common import errors, launch, models
from common.anatomy import footprint, layer_table
from common.models import Classifier

_CONFIG = launch.define_config()
_DEPTH = flags.DEFINE_integer("depth", None, "levels of nested modules to show; default all", lower_bound=1)


def main() -> None:
    """Describes the network of the config that the flags name."""
    if _CONFIG.value is None:
        raise errors.UserError("--config is missing; for example --config=configs/lenet5_digits.py")
    from common import config_checks  # slow imports, once the flags are known to be right
    from common.data import datasets

    config_checks.validate(_CONFIG.value)
    classifier = models.make_classifier(_CONFIG.value.model, datasets.load_info(_CONFIG.value.data))
    width = min(shutil.get_terminal_size((layer_table.WIDTH, 0)).columns, layer_table.WIDTH)
    print(describe(classifier, _CONFIG.value.model, _DEPTH.value, width))


def describe(
    classifier: Classifier, model: ConfigDict, depth: int | None = None, width: int = layer_table.WIDTH
) -> str:
    """The layer table and memory of a classifier, as text of at most `width` columns.

    model: the config section that it was made from. depth: levels of nested modules to show; None is all.
    """
    layers = layer_table.rows(classifier.module, classifier.input_shape)
    variables = layer_table.variable_shapes(classifier.module, classifier.input_shape)
    paper, connections = paper_facts(model, variables.get("params", {}))
    table = layer_table.format_table(layers, paper, connections, depth, width)
    shape = "x".join(map(str, classifier.input_shape))
    memory = footprint.memory(classifier)
    described = (
        "sees: rows of the image that one position of the output depends on, at most",
        "multiply-adds: of matrix products and convolutions, for one image, forwards",
        f"memory: parameters {_bytes(memory.parameters)}, other variables {_bytes(memory.state)}, "
        f"kept for the backward pass {_bytes(memory.activations)} an image",
    )
    return "\n".join(
        [
            f"{model.family} {model.variant}: images of {shape}, {classifier.num_classes} classes",
            "",
            table,
            "",
            *(textwrap.fill(line, width, subsequent_indent="  ") for line in described),
        ]
    )


def paper_facts(model: ConfigDict, params: PyTree) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """The paper's values (layer -> column -> value) and our connections (layer -> count), or empty dictionaries.

    params: the network's parameters or their shapes. The whole network is the layer 'total'.
    """
    paper = models.optional_module(model.family, "paper")
    if paper is None:
        return {}, {}
    layers = dict(paper.LAYERS.get(model.variant, {}))
    if model.variant in getattr(paper, "TOTALS", {}):
        layers["total"] = paper.TOTALS[model.variant]
    connections = paper.connections(model, params) if hasattr(paper, "connections") else {}
    if connections:
        connections = {**connections, "total": sum(connections.values())}
    return layers, connections


def _bytes(size: float) -> str:
    """A size in words, with three digits."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 999.5:  # no more than three digits when rounded
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.3g} GiB"


if __name__ == "__main__":
    launch.run(main)
