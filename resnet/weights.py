"""Converts ResNet's variables to and from the names of PyTorch checkpoints, and stacks and unstacks scanned blocks.

It reads three sets of names:

- torchvision's, which timm shares (`layer1.0.downsample.0`, `fc`). Some CIFAR networks have them too, with projections:
  github.com/chenyaofo/pytorch-cifar-models.
- Hugging Face's.
- those of the usual port of the CIFAR networks (`layer1.0.shortcut.0`, `linear`):
  github.com/akamaster/pytorch_resnet_cifar10.

It writes the CIFAR port's names for networks with the CIFAR stem, and torchvision's for all others.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import PyTree

from common.errors import listed
from common.models import Classifier
from common.pretrained import sources as sources_lib
from common.pretrained import torch_layout
from common.pretrained.identify import Candidate
from common.pretrained.preprocessing import IMAGENET, Options, cropped, scaled
from common.pretrained.torch_layout import Entry
from resnet.model import VARIANTS, ResNet, stacked

HEAD_BIAS = ("fc.bias", "linear.bias", "classifier.1.bias")  # see `common.pretrained.initial`
_BLOCK = re.compile(r"conv(\d+)_(\d+)")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_SHORTCUT = {"shortcut/conv": "downsample.0", "shortcut/bn": "downsample.1"}
_CIFAR_NAMES = {"fc.": "linear.", ".downsample.": ".shortcut."}  # torchvision's -> the CIFAR port's
_HUGGING_FACE = "resnet.embedder.embedder.convolution.weight"  # the first array's name
_BLURRED = re.compile(r"resnet(aa|blur)\d+")  # timm's ResNets that average pixels where they stride, without an array
# torchvision's second weights of ResNet-50, 101 and 152, see `common.pretrained.preprocessing`.
FILES: dict[str, Options] = {digits: {"resize": 232} for digits in ("11ad3fa6", "cd907fc2", "f82ba261")}


def from_published(state: Mapping[str, np.ndarray], module: ResNet, like: PyTree | None = None) -> PyTree:
    """Variables (`params` and `batch_stats`) for `module` from a state dictionary with any of these names.

    torchvision's ImageNet weights are for the `_modern` variants and expect RGB from 0 to 1, minus (0.485, 0.456,
    0.406), divided by (0.229, 0.224, 0.225). The common CIFAR-10 weights expect the same, with shortcuts of option A.
    like: the module's variables or their shapes, if known.
    Raises a UserError that names an array that is missing, left over or of the wrong shape.
    """
    if _HUGGING_FACE in state:
        state = {_from_hugging_face(name): array for name, array in state.items()}
    state = {_renamed(name, {theirs: ours for ours, theirs in _CIFAR_NAMES.items()}): a for name, a in state.items()}
    if like is None or any(stacked(module.scan, size) for size in module.stage_sizes):
        channels = state["conv1.weight"].shape[1] if "conv1.weight" in state else 3
        images = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
        like = jax.eval_shape(module.clone(scan="off").init, jax.random.key(0), images)
    return stack(torch_layout.to_ours(state, entries(like), like), module)


def to_published(variables: PyTree, module: ResNet) -> dict[str, np.ndarray]:
    """The state dictionary of these variables, stacked or not, with every array that `load_state_dict` expects."""
    variables = unstack(variables)
    state = torch_layout.to_theirs(variables, entries(variables))
    is_cifar = variables["params"]["conv1"]["kernel"].shape[0] == 3
    return {_renamed(name, _CIFAR_NAMES) if is_cifar else name: array for name, array in state.items()}


def sources(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The sources whose names the arrays have; timm has torchvision's names and networks."""
    if _HUGGING_FACE in arrays:
        return ("huggingface",)
    if "linear.weight" in arrays or _is_cifar(arrays):
        return ("cifar",)
    return ("torchvision", "timm") if "fc.weight" in arrays else ()


def mismatch(source: str, arrays: Mapping[str, np.ndarray], module: ResNet, facts: Mapping[str, Any]) -> str:
    """The difference between the source's networks and `module` that neither names nor shapes show, or ''."""
    said, stride_in = "", "3x3"
    if blurred := _BLURRED.match(str(facts.get("architecture"))):
        return f"timm's {blurred[0]} averages neighbouring pixels where it strides, which no network here does"
    if source == "huggingface":
        stride_in = "1x1" if facts.get("downsample_in_bottleneck") else "3x3"
        if facts.get("downsample_in_first_stage") or facts.get("hidden_act", "relu") != "relu":
            return "config.json has a stride in the first stage or another activation, which no network here has"
    if source == "cifar":
        if module.shortcut == "none":
            said = f"the CIFAR port's networks are residual: use {_twin(module, shortcut='A')}"
        elif module.shortcut == "A" and module.shortcut_pad != "both":
            said = "the CIFAR port pads the channels of shortcuts on both sides: use config.model.shortcut_pad=both"
    elif module.shortcut in ("A", "none"):
        said = f"{source}'s networks have shortcuts with projections: use {_twin(module, shortcut='B')}"
    elif module.block == "bottleneck" and module.stride_in != stride_in:
        use = _twin(module, stride_in=stride_in)
        said = f"{source}'s bottlenecks have their stride in the {stride_in} convolution: use {use}"
    if not said:
        epsilon = {"bn_epsilon": (1e-5, "batch normalisation of epsilon 1e-05")}
        return sources_lib.different(f"{source}'s ResNet", module, epsilon)
    return f"{said}; of this repository's variants, {listed(_fitting(module))} fit by names and shapes"


def candidates(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> list[Candidate]:
    """The variants with as many blocks in each stage, of the same kind and width; see `common.pretrained.identify`."""
    named = {_from_hugging_face(name): array for name, array in arrays.items()}
    stem = named.get("conv1.weight")
    sizes = [len({name.split(".")[1] for name in named if name.startswith(f"layer{k}.")}) for k in range(1, 5)]
    if stem is None or stem.ndim != 4 or not sizes[0]:
        return []
    same = {
        "stage_sizes": tuple(size for size in sizes if size),
        "block": "bottleneck" if "layer1.0.conv3.weight" in named else "basic",
        "width": stem.shape[0],
        "stem": "cifar" if stem.shape[-1] == 3 else "imagenet",
    }
    is_cifar = same["stem"] == "cifar"
    projected = is_cifar and any(".downsample." in name or ".shortcut." in name for name in named)
    changes = {"shortcut": "B"} if projected else {}
    return [
        Candidate(name, changes, 32 if is_cifar else 224)
        for name, fields in VARIANTS.items()
        if all(fields[field] == value for field, value in same.items())
        and not (projected and fields["shortcut"] == "none")
    ]


def preprocessing(source: str, side: int, arrays: Mapping[str, np.ndarray], name: str) -> Options:
    """The options that a source tests its networks with. timm's vary; these are those of its own recipes (`a1`)."""
    if source == "timm":
        return {**cropped(side, 0.95), "interpolation": "bicubic"}
    if source == "huggingface":
        return {"interpolation": "bicubic"}
    if source != "cifar":
        return {}
    if "linear.weight" in arrays:
        return {**IMAGENET, **cropped(side, 1)}
    if len(arrays["fc.bias"]) == 100:
        return {**scaled((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)), **cropped(side, 1)}
    return {**scaled((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)), **cropped(side, 1)}


def _is_cifar(arrays: Mapping[str, np.ndarray]) -> bool:
    """True for networks without the pooling stem, which end after the third stage."""
    return "fc.weight" in arrays and "layer3.0.conv1.weight" in arrays and "layer4.0.conv1.weight" not in arrays


def _fitting(module: ResNet) -> list[str]:
    """The variants whose arrays have the names and shapes of the module's."""
    same = ("stage_sizes", "block", "width", "stem")
    kinds = {"A": 0, "none": 0}
    return [
        name
        for name, fields in VARIANTS.items()
        if all(fields[field] == getattr(module, field) for field in same)
        and kinds.get(fields["shortcut"], fields["shortcut"]) == kinds.get(module.shortcut, module.shortcut)
    ]


def _twin(module: ResNet, **fields: str) -> str:
    """The variant that differs from the module in these fields alone, or else the options that make it so."""
    same = {name: getattr(module, name) for name in ("stage_sizes", "block", "width", "stem")} | fields
    found = [name for name, has in VARIANTS.items() if all(has.get(field) == value for field, value in same.items())]
    return found[0] if found else " and ".join(f"config.model.{name}={value}" for name, value in fields.items())


def _from_hugging_face(name: str) -> str:
    """Torchvision's name of an array: 'resnet.encoder.stages.0.layers.1.layer.2...' is 'layer1.1.conv3...'."""
    name = name.replace("resnet.embedder.embedder.convolution.", "conv1.")
    name = name.replace("resnet.embedder.embedder.normalization.", "bn1.").replace("classifier.1.", "fc.")
    kinds = {"convolution": "conv", "normalization": "bn"}
    if found := re.fullmatch(r"resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.(.*)", name):
        inside = (
            found[3]
            .replace("shortcut.convolution.", "downsample.0.")
            .replace("shortcut.normalization.", "downsample.1.")
        )
        inside = re.sub(
            r"^layer\.(\d+)\.(convolution|normalization)\.",
            lambda layer: f"{kinds[layer[2]]}{int(layer[1]) + 1}.",
            inside,
        )
        return f"layer{int(found[1]) + 1}.{found[2]}.{inside}"
    return name


def fitted(
    given: PyTree, like: PyTree, *, new_head: bool, network: Classifier, given_network: Classifier | None
) -> tuple[PyTree, list[str]]:
    """The given variables with blocks stacked as `network` has them, for `common.pretrained.initial`."""
    if given_network is None or given_network.module.stage_sizes != network.module.stage_sizes:
        return given, []
    return stack(unstack(given), cast(ResNet, network.module)), []


def entries(like: PyTree) -> list[Entry]:
    """An entry for each array of a network with unstacked blocks; `like` is its variables or their shapes."""
    shapes = traverse_util.flatten_dict(like, sep="/")
    return [_entry(path, len(array.shape)) for path, array in shapes.items()]


def stack(variables: PyTree, module: ResNet) -> PyTree:
    """Variables with unstacked blocks (`conv3_2`, `conv3_3`, ...) as `module` has them: `conv3_x` where it scans."""
    return {name: _stack_stages(dict(tree), module) for name, tree in variables.items()}


def unstack(variables: PyTree) -> PyTree:
    """The inverse of `stack`: every block under its own name."""
    return {name: _unstack_stages(tree) for name, tree in variables.items()}


def _renamed(name: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        name = name.replace(old, new)
    return name


def _entry(path: str, axes: int) -> Entry:
    """The entry of an array: 'params/conv2_1/bn1/scale' is torchvision's 'layer1.0.bn1.weight'."""
    module, _, leaf = path.partition("/")[2].rpartition("/")
    theirs = _BLOCK.sub(lambda found: f"layer{int(found[1]) - 1}.{int(found[2]) - 1}", module)
    theirs = _renamed(theirs, _SHORTCUT).replace("/", ".")
    layout = {"kernel4": "convolution", "kernel2": "dense"}.get(f"{leaf}{axes}", "same")
    return Entry(path, f"{theirs}.{_LEAVES[leaf]}", layout)


def _stack_stages(tree: dict[str, Any], module: ResNet) -> dict[str, Any]:
    for i, size in enumerate(module.stage_sizes):
        if stacked(module.scan, size):
            blocks = [tree.pop(f"conv{i + 2}_{number}") for number in range(2, size + 1)]
            tree[f"conv{i + 2}_x"] = jax.tree.map(lambda *arrays: jnp.stack(arrays), *blocks)
    return tree


def _unstack_stages(tree: Mapping[str, Any]) -> dict[str, Any]:
    apart = {}
    for name, block in tree.items():
        if not name.endswith("_x"):
            apart[name] = block
            continue
        for i in range(len(jax.tree.leaves(block)[0])):
            apart[f"{name[:-1]}{i + 2}"] = jax.tree.map(lambda array, i=i: array[i], block)
    return apart
