"""The paper's numbers: output sizes, multiply-adds and parameters of its networks (Table 1, sections 4.1, 4.2).

A stage is listed by its first block. The paper calls the ImageNet networks' multiply-adds 'FLOPs' and truncates them:
ResNet-34's 3.66 billion (with projections) and ResNet-50's 3.86 are printed as 3.6 and 3.8.
"""

from typing import Any

from resnet.model import VARIANTS

_FLOPS = {"18": "1.8B", "34": "3.6B", "50": "3.8B", "101": "7.6B", "152": "11.3B"}
_CIFAR_PARAMETERS = {"20": "0.27M", "32": "0.46M", "44": "0.66M", "56": "0.85M", "110": "1.7M", "1202": "19.4M"}


def _output_shapes(variant: dict[str, Any], first: int, classes: int) -> dict[str, dict[str, Any]]:
    """Output sizes of conv1, the stages and fc; `first` is the side of conv2_x's maps."""
    expansion = 4 if variant["block"] == "bottleneck" else 1
    conv1 = 2 * first if variant["stem"] == "imagenet" else first
    shapes = {"conv1": (conv1, conv1, variant["width"])}
    for i in range(len(variant["stage_sizes"])):
        side = first // 2**i
        shapes[f"conv{i + 2}_1"] = (side, side, expansion * variant["width"] * 2**i)
    return {name: {"output_shape": shape} for name, shape in {**shapes, "fc": (classes,)}.items()}


_PAPERS = {name: fields for name, fields in VARIANTS.items() if not name.endswith("_modern")}
LAYERS: dict[str, dict[str, dict[str, Any]]] = {
    name: _output_shapes(fields, *((56, 1000) if fields["stem"] == "imagenet" else (32, 10)))
    for name, fields in _PAPERS.items()
}
TOTALS: dict[str, dict[str, Any]] = {
    **{f"resnet{depth}": {"multiply_adds": flops} for depth, flops in _FLOPS.items()},
    **{f"plain{depth}": {"multiply_adds": _FLOPS[depth]} for depth in ("18", "34")},  # Figure 3: "same complexity"
    **{f"resnet{depth}": {"parameters": size} for depth, size in _CIFAR_PARAMETERS.items()},
}
