"""Our networks in PyTorch, for comparison: `torch_network(module, image_size)` reads the layers off a Linen module.

Every network computes the same layers as its counterpart and has exactly as many parameters, which the tests count.
Initial values are PyTorch's. Inputs are NCHW.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from alexnet.model import AlexNet
from googlenet.model import AUXILIARY, MODULES, GoogLeNet
from lenet.model import LeNet5
from resnet.model import ResNet
from vgg.model import CONFIGURATIONS, STAGE_WIDTHS, VGG
from vit.model import VisionTransformer


def torch_network(module: Any, image_size: int) -> nn.Module:
    """The counterpart of a Linen module for square images of that side. Raises KeyError for a module without one.

    In training, GoogLeNet's output is a tuple of logits and auxiliary logits; the others' output is logits.
    """
    return _NETWORKS[type(module)](module, image_size)


def _normalization(channels: int, batch_norm: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels)] if batch_norm else []


def _classifier(inputs: int, width: int, classes: int) -> list[nn.Module]:
    """The three fully connected layers of AlexNet and VGG."""
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(), nn.Linear(width, width), nn.ReLU(), nn.Dropout()]
    return [nn.Flatten(), *hidden, nn.Linear(width, classes)]


def _alexnet(module: AlexNet, image_size: int) -> nn.Module:
    (kernel, stride), (before, after) = module.stem, module.stem_padding
    groups, widths = module.columns, module.widths
    lrn = [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)] if module.lrn else []
    features = [
        nn.ZeroPad2d((before, after, before, after)),
        *(nn.Conv2d(3, widths[0], kernel, stride), nn.ReLU(), *lrn, nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(widths[0], widths[1], 5, padding=2, groups=groups), nn.ReLU(), *lrn, nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(widths[1], widths[2], 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(widths[2], widths[3], 3, padding=1, groups=groups), nn.ReLU()),
        *(nn.Conv2d(widths[3], widths[4], 3, padding=1, groups=groups), nn.ReLU(), nn.MaxPool2d(3, 2)),
    ]
    inputs = _flat_size(features, image_size)
    return nn.Sequential(*features, *_classifier(inputs, module.fc_width, module.num_classes))


def _vgg(module: VGG, image_size: int) -> nn.Module:
    features, channels = [], 3
    for multiple, kernels in zip(STAGE_WIDTHS, CONFIGURATIONS[module.configuration], strict=True):
        for kernel in kernels:
            width = multiple * module.width
            features += [nn.Conv2d(channels, width, kernel, padding=kernel // 2)]
            features += [*_normalization(width, module.batch_norm), nn.ReLU()]
            channels = width
        features += [nn.MaxPool2d(2)]
    inputs = _flat_size(features, image_size)
    return nn.Sequential(*features, *_classifier(inputs, module.fc_width, module.num_classes))


def _flat_size(features: list[nn.Module], image_size: int) -> int:
    with torch.no_grad():
        return nn.Sequential(*features)(torch.zeros(1, 3, image_size, image_size)).numel()


class _Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...], five: int, batch_norm: bool):
        super().__init__()
        one, reduce3, three, reduce5, wide, proj = widths
        self.branches = nn.ModuleList(
            [
                _unit(inputs, one, 1, batch_norm),
                nn.Sequential(_unit(inputs, reduce3, 1, batch_norm), _unit(reduce3, three, 3, batch_norm)),
                nn.Sequential(_unit(inputs, reduce5, 1, batch_norm), _unit(reduce5, wide, five, batch_norm)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), _unit(inputs, proj, 1, batch_norm)),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _unit(inputs: int, outputs: int, kernel: int, batch_norm: bool, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not batch_norm)
    return nn.Sequential(convolution, *_normalization(outputs, batch_norm), nn.ReLU())


class _GoogLeNet(nn.Module):
    """A stem, nine Inception modules, and the auxiliary classifiers of training."""

    def __init__(self, module: GoogLeNet, image_size: int):
        super().__init__()
        del image_size
        bn, lrn = module.batch_norm, [nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)] if module.lrn else []
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        stem = [_unit(3, 64, 7, bn, 2), pool, *lrn, _unit(64, 64, 1, bn), _unit(64, 192, 3, bn), *lrn, pool]
        self.stem, self.pools = nn.Sequential(*stem), nn.ModuleDict({"4a": pool})
        self.pools["5a"] = nn.MaxPool2d(module.last_pool, 2, ceil_mode=True)
        self.inceptions, self.auxiliary, channels = nn.ModuleDict(), nn.ModuleDict(), 192
        for name, widths in MODULES.items():
            self.inceptions[name] = _Inception(channels, widths, module.five, bn)
            channels = widths[0] + widths[2] + widths[4] + widths[5]
            if module.auxiliary and name in AUXILIARY:
                self.auxiliary[name] = self._head(module, channels)
        self.classes = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(module.dropout), nn.Linear(channels, module.num_classes)
        )

    @staticmethod
    def _head(module: GoogLeNet, channels: int) -> nn.Module:
        pooled = nn.AvgPool2d(5, 3) if module.auxiliary_pool == "5x5" else nn.AdaptiveAvgPool2d(4)
        hidden = [nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(module.auxiliary_dropout)]
        return nn.Sequential(
            pooled, _unit(channels, 128, 1, module.batch_norm), *hidden, nn.Linear(1024, module.num_classes)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, auxiliary = self.stem(x), []
        for name, inception in self.inceptions.items():
            x = inception(self.pools[name](x) if name in self.pools else x)
            if name in self.auxiliary:
                auxiliary.append(self.auxiliary[name](x))
        return (self.classes(x), *auxiliary)


class _Block(nn.Module):
    """A residual block, or a plain one."""

    def __init__(self, layers: list[tuple[int, int, int, int]], shortcut: nn.Module | None):
        super().__init__()
        parts = []
        for inputs, outputs, kernel, stride in layers:
            parts += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
            parts += [nn.ReLU()]
        self.layers, self.shortcut = nn.Sequential(*parts[:-1]), shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.layers(x)
        return functional.relu(residual if self.shortcut is None else residual + self.shortcut(x))


class _ZeroPadded(nn.Module):
    """Option A's shortcut."""

    def __init__(self, missing: int, stride: int):
        super().__init__()
        self.padding, self.stride = (0, 0, 0, 0, missing // 2, missing - missing // 2), stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def _resnet(module: ResNet, image_size: int) -> nn.Module:
    del image_size
    width = module.width
    kernel, stride = (7, 2) if module.stem == "imagenet" else (3, 1)
    layers = [nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.MaxPool2d(3, 2, 1)] if module.stem == "imagenet" else []
    channels = width
    for stage, size in enumerate(module.stage_sizes):
        for number in range(size):
            block = _block(module, channels, width * 2**stage, 2 if stage and not number else 1)
            layers.append(block)
            channels = width * 2**stage * (4 if module.block == "bottleneck" else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, module.num_classes))


def _block(module: ResNet, inputs: int, features: int, stride: int) -> nn.Module:
    if module.block == "basic":
        outputs, layers = features, [(inputs, features, 3, stride), (features, features, 3, 1)]
    else:
        outputs = 4 * features
        first, second = (stride, 1) if module.stride_in == "1x1" else (1, stride)
        layers = [(inputs, features, 1, first), (features, features, 3, second), (features, outputs, 1, 1)]
    same = stride == 1 and inputs == outputs
    if module.shortcut == "none":
        shortcut = None
    elif module.shortcut == "C" or (module.shortcut == "B" and not same):
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    else:
        shortcut = nn.Identity() if same else _ZeroPadded(outputs - inputs, stride)
    return _Block(layers, shortcut)


class _ViT(nn.Module):
    """PyTorch's own encoder layers around a patch embedding, a class token and learnt positions."""

    def __init__(self, module: VisionTransformer, image_size: int):
        super().__init__()
        size, tokens = module.hidden_size, (image_size // module.patch_size) ** 2 + 1
        self.embedding = nn.Conv2d(3, size, module.patch_size, module.patch_size)
        self.token = nn.Parameter(torch.zeros(1, 1, size))
        self.positions = nn.Parameter(torch.randn(1, tokens, size) * 0.02)
        layer = nn.TransformerEncoderLayer(
            *(size, module.num_heads, module.mlp_dim, module.dropout),
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, module.depth, nn.LayerNorm(size, 1e-6), enable_nested_tensor=False)
        self.head = nn.Linear(size, module.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.encoder(x)[:, 0])


def _lenet5(module: LeNet5, image_size: int) -> nn.Module:
    """Today's LeNet-5: ReLU, max pooling, a full C3, logits. Raises KeyError for a network with the paper's parts."""
    del image_size
    if (module.activation, module.pooling, module.c3, module.output) != ("relu", "max", "full", "softmax"):
        raise KeyError("PyTorch's LeNet-5 is the variant lenet5_modern")
    layers = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(), nn.Linear(120, 84), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(84, module.num_classes))


_NETWORKS = {
    LeNet5: _lenet5,
    AlexNet: _alexnet,
    VGG: _vgg,
    GoogLeNet: _GoogLeNet,
    ResNet: _resnet,
    VisionTransformer: _ViT,
}
