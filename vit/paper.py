"""The paper's parameter counts, and those of each layer by its equations, for 224 pixels and 1000 classes."""

# Table 1 prints one rounded count for each size, whatever the patch. Ours include a head of 1000 classes. The 86M of
# Base match B/16 without the head, the 307M of Large match L/32 with it.
TOTALS: dict[str, dict[str, str]] = {
    "b16": {"parameters": "86M"},
    "b32": {"parameters": "86M"},
    "l16": {"parameters": "307M"},
    "l32": {"parameters": "307M"},
    "h14": {"parameters": "632M"},
}


def _layers(patch: int, hidden: int, mlp: int, depth: int, classes: int = 1000) -> dict[str, dict[str, int]]:
    """Parameters of each layer, by equations 1 to 4 and those of appendix A; blocks are counted together."""
    tokens = (224 // patch) ** 2 + 1
    attention = 4 * (hidden * hidden + hidden)  # Q, K, V and the output, with biases
    perceptron = hidden * mlp + mlp + mlp * hidden + hidden
    norm = 2 * hidden
    block = attention + perceptron + 2 * norm
    counts = {
        "embedding": patch * patch * 3 * hidden + hidden,
        "Transformer": tokens * hidden + depth * block + norm,
        "Transformer/posembed_input": tokens * hidden,
        "Transformer/encoderblock": depth * block,
        "Transformer/encoderblock/LayerNorm_0": depth * norm,
        "Transformer/encoderblock/MultiHeadDotProductAttention_0": depth * attention,
        "Transformer/encoderblock/LayerNorm_1": depth * norm,
        "Transformer/encoderblock/MlpBlock_0": depth * perceptron,
        "Transformer/encoder_norm": norm,
        "head": hidden * classes + classes,
    }
    return {layer: {"parameters": count} for layer, count in counts.items()}


LAYERS: dict[str, dict[str, dict[str, int]]] = {
    "ti16": _layers(patch=16, hidden=192, mlp=768, depth=12),
    "s16": _layers(patch=16, hidden=384, mlp=1536, depth=12),
    "s32": _layers(patch=32, hidden=384, mlp=1536, depth=12),
    "b16": _layers(patch=16, hidden=768, mlp=3072, depth=12),
    "b32": _layers(patch=32, hidden=768, mlp=3072, depth=12),
    "l16": _layers(patch=16, hidden=1024, mlp=4096, depth=24),
    "l32": _layers(patch=32, hidden=1024, mlp=4096, depth=24),
    "h14": _layers(patch=14, hidden=1280, mlp=5120, depth=32),
}
