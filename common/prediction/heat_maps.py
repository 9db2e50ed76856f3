"""Heat maps: the parts of an image that speak for its likeliest class.

A family's `heat_maps.py` may have

    METHOD: str                                          the name of its method, for the pictures
    heat_maps(module, variables, inputs) -> [batch rows columns]

where `inputs` are images ready for the network, and the function can be compiled. Other networks are explained by
Grad-CAM, if they have maps.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from common import models
from common.errors import UserError
from common.models import Classifier
from common.prediction import layers
from common.prediction.layers import Images, Tap
from common.run.trained import Run

GRAD_CAM = "Grad-CAM"

Maps = Float[Array, "batch rows columns"]
Kept = dict[Tap, Array]
# (classifier, variables, inputs, taps) -> the network's outputs, the values at the taps, heat maps
Explain = Callable[[Classifier, PyTree, Images, Sequence[Tap]], tuple[Any, Kept, Maps]]


class Method(NamedTuple):
    """A way to explain the predictions of a network, and its name."""

    name: str
    explain: Explain


def method(run: Run) -> Method:
    """The family's own method, else Grad-CAM. Raises UserError for a network without maps of more than one pixel."""
    own = models.optional_module(run.config.model.family, "heat_maps")
    if own is not None:
        return Method(own.METHOD, functools.partial(_by_family, own.heat_maps))
    maps = layers.last_maps(layers.output_shapes(run.classifier.module, run.variables, run.classifier.input_shape))
    if maps is None:
        raise UserError(f"--explain needs a network with maps; '{run.config.model.variant}' has none of several pixels")
    return Method(GRAD_CAM, functools.partial(grad_cam, maps))


def _by_family(
    heat_maps: Callable[..., Maps], classifier: Classifier, variables: PyTree, inputs: Images, taps: Sequence[Tap]
) -> tuple[Any, Kept, Maps]:
    outputs, kept = layers.read(classifier.module, variables, inputs, taps)
    return outputs, kept, heat_maps(classifier.module, variables, inputs)


def grad_cam(
    maps: Tap, classifier: Classifier, variables: PyTree, inputs: Images, taps: Sequence[Tap] = ()
) -> tuple[Any, Kept, Maps]:
    """The network's outputs, the values at the taps, and Grad-CAM for the likeliest classes (Selvaraju et al. 2017).

    With A^k the maps of a layer and y^c the logit of class c: alpha_k = mean over places of dy^c/dA^k (equation 1), and
    the heat map is ReLU(sum over k of alpha_k A^k) (equation 2).
    """
    read = functools.partial(layers.read, classifier.module, variables, inputs, [*dict.fromkeys([*taps, maps])])
    shape = jax.eval_shape(read)[1][maps]

    def score(nudge: Array) -> tuple[Array, tuple[Any, Kept]]:
        outputs, kept = read({maps: nudge})
        # Images do not depend on each other, so the gradient of the sum holds that of each image's own score.
        return classifier.logits(outputs).astype(jnp.float32).max(-1).sum(), (outputs, kept)

    gradients, (outputs, kept) = jax.grad(score, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    values, gradients = (_last_call(array).astype(jnp.float32) for array in (kept[maps], gradients))
    weights = gradients.mean(axis=(1, 2))
    return outputs, kept, jax.nn.relu(jnp.einsum("bhwk,bk->bhw", values, weights))


def _last_call(array: Array) -> Float[Array, "batch rows columns maps"]:
    """The maps of the last call, if a scan stacks the calls of a layer along a first axis."""
    return array[-1] if array.ndim == 5 else array
