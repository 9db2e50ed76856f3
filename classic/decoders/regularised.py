"""Linear classifiers whose constant is given or chosen on validation, for each decoder that ends in one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from classic.decoders import linear, selection
from classic.decoders.linear import Linear, Loss
from classic.decoders.rows import Rows
from classic.options import POSITIVE

# The options of every such decoder, with common defaults.
DEFAULTS: dict[str, Any] = {
    "C": "validation",  # weight of the losses against 1/2 |w|^2: a number, or the best of `constants` on validation
    "constants": (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
    "holdout": 0.1,  # share of the training images held out for this choice if there is no validation set
    "standardise": False,  # subtract each feature's mean and divide by its deviation
}
CHOICES: dict[str, tuple] = {}
RANGES = {"constants": POSITIVE, "holdout": (0.01, 0.9)}


def fit(
    rows: Rows,
    labels: Int[np.ndarray, " n"],
    options: Any,
    seed: int,
    num_classes: int,
    loss: Loss,
    validation: tuple[Rows, Int[np.ndarray, " v"]] | None = None,
) -> dict[str, np.ndarray]:
    """The 'weights', the 'bias' and the constant 'C'; if C was chosen, also its 'validation_error'.

    Decoders that map features have no option `standardise`, which would not help.
    """
    rows = rows.mapped()
    scale = linear.scaling(rows, options.get("standardise", False))
    constant, chosen, start = selection.constant(options.C), {}, None
    if constant is None:
        everything = np.ones(len(rows), bool)
        kept = ~selection.held_out(labels, options.holdout, seed) if validation is None else everything
        tried: dict[float, Linear] = {}

        def errors() -> Iterator[tuple[float, float]]:
            for number, fitted in linear.path(rows, labels, num_classes, loss, scale, options.constants, kept):
                tried[number] = fitted
                if validation is not None:
                    yield number, linear.error(linear.scores(fitted, validation[0]), validation[1])
                else:
                    yield number, linear.error(linear.scores(fitted, rows)[~kept], labels[~kept])

        choice = selection.best(errors())
        constant, start = choice.constant, tried[choice.constant]
        chosen = {"validation_error": np.array(choice.error, np.float32)}
    fitted = linear.fit(rows, labels, num_classes, loss, scale, constant, start=start)
    return {"weights": fitted.weights, "bias": fitted.bias, "C": np.array(constant, np.float32), **chosen}
