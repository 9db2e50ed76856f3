"""The Vision Transformer (Dosovitskiy et al. 2021) and its hybrids.

Layers have the names of the published checkpoints. With `scan`, the parameters of all blocks are stacked along a
leading axis under the one name `encoderblock`. On CPU the blocks then run as a loop, and compile time hardly grows with
depth; on accelerators they are repeated in the program, which is faster. Without `scan` the blocks are encoderblock_0,
encoderblock_1, ...; `blocks.py` converts between the two.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common import models
from common.devices import compilation, products
from common.errors import UserError
from common.models import Classifier
from common.nn.layers import Dropout, identity
from common.nn.losses import cross_entropy
from vit import hybrid
from vit.attention import MultiHeadDotProductAttention, Tokens
from vit.embeddings import POSITIONS, Grid, PatchEmbedding, PositionEmbedding


class MlpBlock(nn.Module):
    """Dense, GELU, Dense back to the hidden size."""

    mlp_dim: int
    dropout: float = 0.0
    gelu: str = "tanh"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, tokens: Tokens, train: bool = False) -> Tokens:
        """Transforms each token by itself."""
        dense = functools.partial(
            nn.Dense,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.normal(1e-6),
            dtype=self.dtype,
            dot_general=products.product,
        )
        x = nn.gelu(dense(self.mlp_dim, name="Dense_0")(tokens), approximate=self.gelu == "tanh")
        x = Dropout(self.dropout, deterministic=not train)(x)
        x = dense(tokens.shape[-1], name="Dense_1")(x)
        return Dropout(self.dropout, deterministic=not train)(x)


class EncoderBlock(nn.Module):
    """Equations 2 and 3: z' = MSA(LN(z)) + z, then MLP(LN(z')) + z'."""

    mlp_dim: int
    num_heads: int
    dropout: float = 0.0
    gelu: str = "tanh"
    dtype: str = "float32"
    ln_epsilon: float = 1e-6

    @nn.compact
    def __call__(self, tokens: Tokens, train: bool = False) -> Tokens:
        """One layer of the Transformer."""
        norm = functools.partial(layer_norm, self.dtype, epsilon=self.ln_epsilon)
        attend = MultiHeadDotProductAttention(self.num_heads, self.dtype, name="MultiHeadDotProductAttention_0")
        x = attend(norm("LayerNorm_0")(tokens))
        tokens = tokens + Dropout(self.dropout, deterministic=not train)(x)
        mlp = MlpBlock(self.mlp_dim, self.dropout, self.gelu, self.dtype, name="MlpBlock_0")
        return tokens + mlp(norm("LayerNorm_1")(tokens), train=train)


def layer_norm(dtype: str, name: str, epsilon: float = 1e-6) -> nn.LayerNorm:
    """(x - mean) / sqrt(var + epsilon), scaled and shifted, over the hidden axis; statistics in float32 or better."""
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, dtype=dtype, name=name)


class Encoder(nn.Module):
    """Position embeddings, `depth` blocks and a final layer norm; see VisionTransformer for the fields."""

    depth: int
    mlp_dim: int
    num_heads: int
    position: str = "learned"
    dropout: float = 0.0
    gelu: str = "tanh"
    dtype: str = "float32"
    scan: bool = True
    remat: str = "auto"
    ln_epsilon: float = 1e-6

    @nn.compact
    def __call__(self, tokens: Tokens, grid: Grid, train: bool = False) -> Tokens:
        """Tokens after all blocks; the last ones are the patches of the `grid` in raster order."""
        x = PositionEmbedding(self.position, name="posembed_input")(tokens, grid)
        x = Dropout(self.dropout, deterministic=not train)(x)
        fields = (self.mlp_dim, self.num_heads, self.dropout, self.gelu, self.dtype, self.ln_epsilon)
        block = functools.partial(EncoderBlock, *fields)
        apply = functools.partial(_apply_block, train=train)
        loops = self.scan and compilation.on_cpu()
        if (remat := rematerialised(self.remat)) != "none":
            policy = {"cheap": products.KEEPS_PRODUCTS, "blocks": None}[remat]
            # A loop keeps the recomputation apart from the forward pass; elsewhere XLA would merge the two and undo it.
            apply = nn.remat(apply, prevent_cse=not loops, policy=policy)
        if self.scan:
            loop = nn.scan(
                apply,
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                length=self.depth,
                # An accelerator copies a loop's activations to keep them; training without it is 1.4 times as fast.
                unroll=1 if loops else self.depth,
            )
            x, _ = loop(block(name="encoderblock"), x, None)
        else:
            for number in range(self.depth):
                x, _ = apply(block(name=f"encoderblock_{number}"), x, None)
                # Every later block reads this sum; without the barrier XLA's CPU backend would recompute it for each.
                x = jax.lax.optimization_barrier(x)
        return layer_norm(self.dtype, "encoder_norm", self.ln_epsilon)(x)


def rematerialised(remat: str) -> str:
    """The values that the backward pass recomputes: 'none', 'cheap' or 'blocks'; 'auto' depends on the backend.

    'cheap' is everything but the products with weights and, on a CPU, the results of attention: norms, GELU, attention
    weights. A CPU computes these faster than it writes them to memory and reads them again, so 'auto' is 'cheap' there
    and 'none' elsewhere.
    """
    if remat != "auto":
        return remat
    return "cheap" if compilation.on_cpu() else "none"


def _apply_block(block: EncoderBlock, tokens: Tokens, _: None, *, train: bool) -> tuple[Tokens, None]:
    """A block as the body of a loop."""
    return block(tokens, train=train), None


class VisionTransformer(nn.Module):
    """A Transformer encoder on the patches of an image, and a linear classifier on its output (section 3.1)."""

    num_classes: int
    patch_size: int  # P: side of a patch, in pixels of the image, or in positions of a hybrid's features
    hidden_size: int  # D
    mlp_dim: int
    num_heads: int
    depth: int  # L
    pooling: str = "token"  # the classifier reads the class token; 'average': the mean patch (appendix D.3)
    position: str = "learned"  # or 'learned_2d', 'sincos2d', 'none': see PositionEmbedding
    representation_size: int = 0  # pre-training: units of a tanh layer before the head; 0: the head alone
    dropout: float = 0.0  # after position embeddings and each dense layer except Q, K and V (appendix B.1)
    gelu: str = "tanh"  # the approximation that the published weights were trained with; or 'exact'
    ln_epsilon: float = 1e-6  # of the layer norms; Hugging Face's networks have 1e-12
    dtype: str = "float32"  # of the computation; parameters are float32
    scan: bool = True  # stack the blocks' parameters, for a loop where that is faster
    remat: str = "auto"  # the values that the backward pass recomputes: see `rematerialised`
    stages: tuple[int, ...] | None = None  # hybrids: blocks in each stage of the ResNet below; None: no ResNet

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits."""
        x = images if self.stages is None else hybrid.resnet(images, self.stages, self.dtype)
        x = PatchEmbedding(self.hidden_size, self.patch_size, self.dtype, name="embedding")(x)
        batch, rows, columns, _ = x.shape
        x = x.reshape(batch, rows * columns, self.hidden_size)
        if self.pooling == "token":
            token = self.param("cls", nn.initializers.zeros, (1, 1, self.hidden_size))
            x = jnp.concatenate([jnp.tile(token.astype(x.dtype), (batch, 1, 1)), x], axis=1)
        names = ("depth", "mlp_dim", "num_heads", "position", "dropout", "gelu", "dtype", "scan", "remat", "ln_epsilon")
        encoder = Encoder(**{name: getattr(self, name) for name in names}, name="Transformer")
        x = encoder(x, grid=(rows, columns), train=train)
        x = x[:, 0] if self.pooling == "token" else x.mean(axis=1)
        if self.representation_size:
            x = nn.tanh(nn.Dense(self.representation_size, dtype=self.dtype, name="pre_logits")(x))
        head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="head")
        return head(x).astype(jnp.float32)

    @nn.nowrap
    def grid(self, image_shape: tuple[int, ...]) -> Grid:
        """Rows and columns of patches in images of (height, width, ...) pixels."""
        return image_shape[0] // self.patch_pixels, image_shape[1] // self.patch_pixels

    @property
    def patch_pixels(self) -> int:
        """Side of a patch in image pixels."""
        return self.patch_size * (1 if self.stages is None else hybrid.stride(self.stages))


# Table 1, the smaller sizes of Touvron et al. 2021 (DeiT), and one of ours for small images.
_SIZES = {
    "nano": {"hidden_size": 64, "mlp_dim": 256, "num_heads": 4, "depth": 6},
    "ti": {"hidden_size": 192, "mlp_dim": 768, "num_heads": 3, "depth": 12},
    "s": {"hidden_size": 384, "mlp_dim": 1536, "num_heads": 6, "depth": 12},
    "b": {"hidden_size": 768, "mlp_dim": 3072, "num_heads": 12, "depth": 12},
    "l": {"hidden_size": 1024, "mlp_dim": 4096, "num_heads": 16, "depth": 24},
    "h": {"hidden_size": 1280, "mlp_dim": 5120, "num_heads": 16, "depth": 32},
}
VARIANTS = models.variants(
    VisionTransformer,
    {
        "nano4": {"patch_size": 4, **_SIZES["nano"]},
        "ti16": {"patch_size": 16, **_SIZES["ti"]},
        "s16": {"patch_size": 16, **_SIZES["s"]},
        "s32": {"patch_size": 32, **_SIZES["s"]},
        "b16": {"patch_size": 16, **_SIZES["b"]},
        "b32": {"patch_size": 32, **_SIZES["b"]},
        "l16": {"patch_size": 16, **_SIZES["l"]},
        "l32": {"patch_size": 32, **_SIZES["l"]},
        "h14": {"patch_size": 14, **_SIZES["h"]},
        # Hybrids, whose patches are cut from features. The public code's R+Ti/16 has a root of stride 4, so a patch of
        # 8 features is 32 pixels wide.
        "r_ti16": {"stages": (), "patch_size": 8, **_SIZES["ti"]},
        "r26_s32": {"stages": (2, 2, 2, 2), "patch_size": 1, **_SIZES["s"]},
        "r26_b32": {"stages": (2, 2, 2, 2), "patch_size": 1, **_SIZES["b"]},
        "r50_b16": {"stages": (3, 4, 9), "patch_size": 1, **_SIZES["b"]},
        "r50_l32": {"stages": (3, 4, 6, 3), "patch_size": 1, **_SIZES["l"]},
    },
)
CHOICES = {
    "pooling": ("token", "average"),
    "position": POSITIONS,
    "gelu": ("tanh", "exact"),
    "dtype": ("float32", "bfloat16"),
    "remat": ("auto", "none", "cheap", "blocks"),
}

# Rows and columns of patches in the position embeddings of `config.init.checkpoint`; () is a square.
INIT_OPTIONS = {"old_grid": ()}


RANGES = {
    **dict.fromkeys(("patch_size", "hidden_size", "mlp_dim", "num_heads"), models.COUNT),
    **dict.fromkeys(("depth", "stages"), models.LAYERS),
    "representation_size": models.SIZE,
    "ln_epsilon": models.SIZE,
    "dropout": models.SHARE,
}


def network(section: ConfigDict, num_classes: int) -> VisionTransformer:
    """The module that a `model` section describes. Raises UserError for unknown, impossible or contradictory values."""
    fields = models.hyper_parameters(section, VARIANTS, CHOICES, RANGES)
    if section.hidden_size % section.num_heads:
        raise UserError(
            f"config.model.hidden_size {section.hidden_size} does not split into {section.num_heads} heads; set "
            f"config.model.num_heads to {_nearest_divisor(section.num_heads, section.hidden_size)}"
        )
    parts = {"sincos2d": 4, "learned_2d": 2}.get(section.position, 1)
    if section.hidden_size % parts:
        raise UserError(
            f"config.model.position '{section.position}' needs a hidden_size that is a multiple of {parts}, "
            f"got {section.hidden_size}"
        )
    models.check_stages("stages", fields.get("stages") or (), hybrid.WIDTH)
    return VisionTransformer(num_classes=num_classes, **fields)


def make_classifier(section: ConfigDict, info: models.Facts) -> Classifier:
    """The classifier of a `model` section (a variant's hyper-parameters) for a dataset with these facts.

    Labels are class indices or distributions. Raises UserError for unknown or contradictory hyper-parameters and for
    images that do not split into patches.
    """
    module = network(section, info.num_classes)
    _check_image(module, info.image_shape)
    return Classifier(
        module=module,
        loss=cross_entropy,
        logits=identity,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        soft_labels=True,
    )


def check_init(section: ConfigDict) -> None:
    """Raises UserError unless `old_grid` of `config.init` is empty or two whole numbers of at least 1."""
    grid = tuple(section.old_grid)
    if grid and not (len(grid) == 2 and all(isinstance(number, int) and number >= 1 for number in grid)):
        raise UserError(f"config.init.old_grid is {grid}; expected rows and columns of patches")


def _check_image(module: VisionTransformer, image_shape: tuple[int, ...]) -> None:
    height, width, _ = image_shape
    side = module.patch_pixels
    if height % side == 0 and width % side == 0:
        return
    resize = max(round(height / side), 1) * side
    message = f"images of {height}x{width} pixels do not split into patches of {side}x{side}"
    mend = f"set config.data.resize to a multiple of {side}, such as {resize}"
    if module.stages is None:
        divisor = _nearest_divisor(side, math.gcd(height, width))
        mend += f", or config.model.patch_size to a divisor of both sides, such as {divisor}"
    raise UserError(f"{message}: {mend}")


def _nearest_divisor(wanted: int, number: int) -> int:
    divisors = (i for i in range(1, number + 1) if number % i == 0)
    return min(divisors, key=lambda divisor: abs(divisor - wanted))
