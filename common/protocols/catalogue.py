"""The test protocols: the views of an image that the network sees, and their scales.

A protocol is a list of passes over the test set. In each pass, images have one scale and are seen as crops or whole.
Probabilities are averaged over the views of an image in a pass and over passes, with equal weights.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from flax import linen as nn
from jaxtyping import Array, PyTree

from common import models
from common.data import datasets
from common.errors import UserError, unknown
from common.protocols import views
from common.protocols.views import Cut
from common.run.trained import Run


class Protocol(NamedTuple):
    """The ways to cut views from an image, and the scales of the image (its shorter side).

    scales: in eighths of the training images' scale (`config.data.resize`; 256 pixels for ImageNet). jittered: the
    scales for networks that were trained on a range of scales, from 0 for its start (`config.data.resize`) to 1 for its
    end (`config.data.resize_max`); () uses `scales` for these networks too. VGG's networks that were trained at 384
    pixels were tested at 352, 384 and 416 (section 4.2), where eighths are 336, 384 and 432; give the paper's as
    `--scales`.
    """

    cuts: tuple[Cut, ...]
    scales: tuple[int, ...]
    jittered: tuple[float, ...] = ()


PROTOCOLS = {
    "single": Protocol((views.centre_crop,), (8,)),
    "ten_crop": Protocol((views.ten_crops,), (8,)),  # Krizhevsky 2012, section 4.1; He 2016, section 3.4
    "googlenet_144": Protocol((views.three_square_crops,), (8, 9, 10, 11)),  # Szegedy 2014, section 7
    "dense": Protocol((views.whole,), (8,), (0.5,)),  # Simonyan 2014, section 4.1
    "multi_scale": Protocol((views.whole,), (7, 8, 9), (0, 0.5, 1)),  # section 4.2
    "multi_crop": Protocol((views.grid_crops,), (7, 8, 9), (0, 0.5, 1)),  # section 4.3
    "combined": Protocol((views.whole, views.grid_crops), (7, 8, 9), (0, 0.5, 1)),  # section 4.3
}


class Pass(NamedTuple):
    """One pass over the test set, with images of shorter side `scale`; None: as in the tests during training."""

    scale: int | None
    cut: Cut

    @property
    def dense(self) -> bool:
        """True if the network is applied to whole images."""
        return self.cut is views.whole


def passes(run: Run, name: str, scales: Sequence[int] = ()) -> list[Pass]:
    """The passes of a protocol for a trained network, at the given scales (pixels) or at the paper's.

    Raises UserError for an unknown protocol, for one that the network cannot do, and for scales that are too small.
    """
    protocol = _find(run, name)
    if name == "single" and not scales:
        return [Pass(None, views.as_stored)]
    height, width = run.classifier.input_shape[:2]
    if height != width:
        raise UserError(f"protocol '{name}' cuts squares, but this network takes {height}x{width} pixels; use 'single'")
    scales = sorted(set(scales)) or default_scales(run, protocol)
    if scales[0] < height:
        raise UserError(f"--scales has {scales[0]}; expected at least the {height} pixels that the network takes")
    return [Pass(scale, cut) for cut in protocol.cuts for scale in scales]


def default_scales(run: Run, protocol: Protocol) -> list[int]:
    """The paper's scales, in proportion to the size of the run's images but never below the network's input.

    For crops, images no larger than the network's input are enlarged by 256 / 224, as for ImageNet.
    """
    side, data = run.classifier.input_shape[0], run.config.data
    if data.resize_max and protocol.jittered:
        scales = [data.resize + part * (data.resize_max - data.resize) + 2 * data.pad for part in protocol.jittered]
    else:
        whole = datasets.load_test(data, whole=True, known=run.info, everything=run.other_source)
        own = min(whole[0]["image"].shape[:2])
        if own <= side and protocol.cuts != (views.whole,):
            own = round(side * 256 / 224)
        scales = [own * eighths / 8 for eighths in protocol.scales]
    return sorted({max(side, round(scale)) for scale in scales})


def supported_protocols(run: Run) -> list[str]:
    """The protocols that suit the run's network; some networks only take images of one size."""
    dense = dense_logits(run) is not None
    return [name for name, protocol in PROTOCOLS.items() if dense or views.whole not in protocol.cuts]


def dense_logits(run: Run) -> Callable[[nn.Module, PyTree, Array], Array] | None:
    """The family's `dense_logits(module, variables, images) -> [batch, rows, columns, classes]`, or None."""
    return getattr(models.family_module(run.config.model.family), "dense_logits", None)


def _find(run: Run, name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise unknown("test protocol", name, PROTOCOLS)
    possible = supported_protocols(run)
    if name not in possible:
        model = run.config.model
        raise UserError(
            f"{model.family} {model.variant} cannot be tested with '{name}', because it only takes images of one size; "
            f"it can be tested with {', '.join(possible)}"
        )
    return PROTOCOLS[name]
