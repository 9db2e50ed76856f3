"""Counts of the ResNet paper and identities of batch normalisation, computed from our networks and layers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from common.anatomy import networks
from common.claims.fact import Fact, relative_difference
from common.nn.batch_norm import BatchNorm
from resnet import model, paper

_IMAGENET = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_CIFAR = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202")
_EXACT = 1e-5  # relative difference that float32 allows
_EPSILON = 1e-5
_AXES = (0, 1, 2)  # batch, rows and columns


def multiply_adds(variant: str) -> dict[str, int]:
    """The multiply-adds of a network for ImageNet."""
    return {"multiply-adds": networks.multiply_adds("resnet", variant)}


def shortcut_costs(depth: int) -> dict[str, int]:
    """The extra parameters and multiply-adds of a residual network over its plain twin."""
    names = f"resnet{depth}", f"plain{depth}"
    return {
        f"{depth} layers, {count.__name__}": count("resnet", names[0]) - count("resnet", names[1])
        for count in (networks.parameters, networks.multiply_adds)
    }


def cost_over(variant: str) -> float:
    """The multiply-adds of ResNet-152, divided by those of a VGG network."""
    return networks.multiply_adds("resnet", "resnet152") / networks.multiply_adds("vgg", variant)


def weighted_layers(variant: str) -> int:
    """The number of layers with weights on the main path."""
    fields = model.VARIANTS[variant]
    return model.weighted_layers(fields["stage_sizes"], fields["block"])


def batch_norm_equation() -> dict[str, float]:
    """The relative difference between our layer and the paper's algorithms: 1 in training, 2 in testing."""
    x, gamma, beta = map(jnp.asarray, _drawn())
    exact = np.asarray(x, np.float64)
    layer = BatchNorm(epsilon=_EPSILON)
    variables = {"params": {"scale": gamma, "bias": beta}, "batch_stats": {"mean": beta, "var": gamma**2 + 1}}
    trained, _ = layer.apply(variables, x, train=True, mutable="batch_stats")
    used: Any = layer.apply(variables, x, train=False)
    return {
        "in training": relative_difference(
            trained, _normalised(exact, exact.mean(_AXES), exact.var(_AXES), gamma, beta)
        ),
        "in testing": relative_difference(used, _normalised(exact, beta, gamma**2 + 1, gamma, beta)),
    }


def batch_norm_gradient() -> dict[str, float]:
    """The relative difference between our layer's gradients and the equation's, by automatic differentiation."""
    x, gamma, beta = _drawn()
    weights = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def ours(x: Array, gamma: Array, beta: Array) -> Array:
        variables = {"params": {"scale": gamma, "bias": beta}, "batch_stats": {"mean": 0 * beta, "var": 0 * beta + 1}}
        return jnp.sum(weights * BatchNorm(epsilon=_EPSILON).apply(variables, x, train=True, mutable="batch_stats")[0])

    def equation(x: Array, gamma: Array, beta: Array) -> Array:
        return jnp.sum(weights * _normalised(x, x.mean(_AXES), x.var(_AXES), gamma, beta))

    pairs = zip(*(jax.jit(jax.grad(function, (0, 1, 2)))(x, gamma, beta) for function in (ours, equation)), strict=True)
    return {name: relative_difference(*pair) for name, pair in zip(("inputs", "gamma", "beta"), pairs, strict=True)}


def _drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of six channels, each with its own mean and spread, then gamma and beta."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=6) + rng.uniform(1, 2, size=6) * rng.normal(size=(8, 5, 4, 6))
    return x.astype(np.float32), *rng.normal(size=(2, 6)).astype(np.float32)


def _normalised(x: Any, mean: Any, var: Any, gamma: Any, beta: Any) -> Any:
    return gamma * (x - mean) / (var + _EPSILON) ** 0.5 + beta


FACTS = [
    *(
        Fact(
            id=f"resnet-t1-{variant.removeprefix('resnet')}",
            where="He 2016, Table 1",
            says=f"{variant} takes {paper.TOTALS[variant]['multiply_adds']} multiply-adds",
            compute=functools.partial(multiply_adds, variant),
            expected={"multiply-adds": paper.TOTALS[variant]["multiply_adds"]},
            note="the paper cuts 3.86 off to 3.8" if variant == "resnet50" else "",
        )
        for variant in _IMAGENET
    ),
    Fact(
        id="resnet-152-cheaper-than-vgg",
        where="He 2016, section 4.1",
        says="ResNet-152 takes fewer multiply-adds than VGG-16 and VGG-19",
        compute=lambda: {"over VGG-16": cost_over("vgg16"), "over VGG-19": cost_over("vgg19")},
        expected={"over VGG-16": (None, 0.99), "over VGG-19": (None, 0.99)},
    ),
    Fact(
        id="resnet-vgg-flops",
        where="He 2016, section 4.1",
        says="VGG-16 takes 15.3 billion multiply-adds, VGG-19 19.6 billion",
        compute=lambda: {f"VGG-{depth}": networks.multiply_adds("vgg", f"vgg{depth}") for depth in (16, 19)},
        expected={"VGG-16": "15.3B", "VGG-19": "19.6B"},
        unit="multiply-adds",
        note="15.3 billion is VGG-16 without its fully connected layers, 19.6 billion is VGG-19 with them",
    ),
    Fact(
        id="resnet-shortcuts-are-free",
        where="He 2016, section 3.2",
        says="identity shortcuts add no parameters and no multiply-adds to a plain network",
        compute=lambda: {**shortcut_costs(18), **shortcut_costs(34), **shortcut_costs(20)},
        expected={f"{depth} layers, {count}": 0 for depth in (18, 34, 20) for count in ("parameters", "multiply_adds")},
    ),
    Fact(
        id="resnet-t6-parameters",
        where="He 2016, Table 6",
        says="the CIFAR-10 networks have 0.27 to 19.4 million parameters",
        compute=lambda: {variant: networks.parameters("resnet", variant, 32, 10) for variant in _CIFAR},
        expected={variant: paper.TOTALS[variant]["parameters"] for variant in _CIFAR},
        unit="parameters",
    ),
    Fact(
        id="resnet-6n-plus-2",
        where="He 2016, section 4.2",
        says="with n = 3, 5, 7, 9, 18 and 200 there are 6n + 2 layers with weights",
        compute=lambda: {
            f"n = {model.VARIANTS[variant]['stage_sizes'][0]}": weighted_layers(variant) for variant in _CIFAR
        },
        expected={f"n = {n}": 6 * n + 2 for n in (3, 5, 7, 9, 18, 200)},
        unit="layers",
    ),
    Fact(
        id="bn-equation",
        where="Ioffe & Szegedy 2015, Algorithms 1 and 2",
        says="a channel is normalised by its mean and variance over batch and positions, in testing by fixed ones",
        compute=batch_norm_equation,
        expected={"in training": (0.0, _EXACT), "in testing": (0.0, _EXACT)},
        unit="relative difference",
    ),
    Fact(
        id="bn-gradient",
        where="Ioffe & Szegedy 2015, section 3",
        says="the gradient flows through the mean and the variance of the batch",
        compute=batch_norm_gradient,
        expected={"inputs": (0.0, _EXACT), "gamma": (0.0, _EXACT), "beta": (0.0, _EXACT)},
        unit="relative difference",
    ),
]
