"""The Vision Transformer from its equations, in numpy, with the array names of published checkpoints."""

import numpy as np
from scipy import special


def layer_norm(x, scale, bias):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return scale * (x - mean) / np.sqrt(variance + 1e-6) + bias


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attention(query, key, value):
    """One image and head: [tokens, head size] each; returns the output and A."""
    weights = softmax(query @ key.T / np.sqrt(query.shape[-1]))
    return weights @ value, weights


def multi_head(tokens, arrays):
    """One image: [tokens, hidden]."""
    heads = arrays["query/kernel"].shape[1]
    outputs = []
    for head in range(heads):
        q, k, v = (
            tokens @ arrays[f"{name}/kernel"][:, head] + arrays[f"{name}/bias"][head]
            for name in ("query", "key", "value")
        )
        outputs.append(attention(q, k, v)[0])
    joined = np.concatenate(outputs, axis=-1)
    return joined @ arrays["out/kernel"].reshape(joined.shape[-1], -1) + arrays["out/bias"]


def gelu(x, form="tanh"):
    if form == "exact":
        return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def inside(arrays, prefix):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def patches(image, size):
    height, width, _ = image.shape
    return np.stack(
        [image[i : i + size, j : j + size].reshape(-1) for i in range(0, height, size) for j in range(0, width, size)]
    )


def vision_transformer(arrays, image, form="tanh"):
    """Logits of one image [height, width, channels]; arrays have the paper's files' names, in float64."""
    kernel = arrays["embedding/kernel"]
    z = patches(image, kernel.shape[0]) @ kernel.reshape(-1, kernel.shape[-1]) + arrays["embedding/bias"]
    if "cls" in arrays:
        z = np.concatenate([arrays["cls"][0], z])
    z = z + arrays["Transformer/posembed_input/pos_embedding"][0]
    depth = len({name.split("/")[1] for name in arrays if "encoderblock" in name})
    for number in range(depth):
        block = inside(arrays, f"Transformer/encoderblock_{number}/")
        normed = layer_norm(z, block["LayerNorm_0/scale"], block["LayerNorm_0/bias"])
        z = multi_head(normed, inside(block, "MultiHeadDotProductAttention_1/")) + z
        normed = layer_norm(z, block["LayerNorm_2/scale"], block["LayerNorm_2/bias"])
        mlp = inside(block, "MlpBlock_3/")
        hidden = gelu(normed @ mlp["Dense_0/kernel"] + mlp["Dense_0/bias"], form)
        z = hidden @ mlp["Dense_1/kernel"] + mlp["Dense_1/bias"] + z
    z = layer_norm(z, arrays["Transformer/encoder_norm/scale"], arrays["Transformer/encoder_norm/bias"])
    y = z[0] if "cls" in arrays else z.mean(axis=0)
    if "pre_logits/kernel" in arrays:
        y = np.tanh(y @ arrays["pre_logits/kernel"] + arrays["pre_logits/bias"])
    return y @ arrays["head/kernel"] + arrays["head/bias"]
