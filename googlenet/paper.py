"""The numbers of the paper's Table 1: map sizes, 'params' and 'ops' (multiply-adds).

Its 'params' are weights in units of 1024 for conv2, 3a, 3b, 4b and the linear layer; for the other modules no way of
counting gives them. Its 'ops' agree with ours to a million, except for conv1 and 5a. For conv1 it prints 2.7K
and 34M, which fit a separable convolution and not the 7x7 one that it describes. It gives conv2 and its reduction
together (112K, 360M), so they are left out here.
"""

from typing import Any


def _row(output_shape: tuple[int, ...], parameters: str, multiply_adds: str) -> dict[str, Any]:
    return {"output_shape": output_shape, "parameters": parameters, "multiply_adds": multiply_adds}


LAYERS: dict[str, dict[str, dict[str, Any]]] = {
    "googlenet": {
        "conv1": _row((112, 112, 64), "2.7K", "34M"),
        "conv2": {"output_shape": (56, 56, 192)},
        "inception_3a": _row((28, 28, 256), "159K", "128M"),
        "inception_3b": _row((28, 28, 480), "380K", "304M"),
        "inception_4a": _row((14, 14, 512), "364K", "73M"),
        "inception_4b": _row((14, 14, 512), "437K", "88M"),
        "inception_4c": _row((14, 14, 512), "463K", "100M"),
        "inception_4d": _row((14, 14, 528), "580K", "119M"),
        "inception_4e": _row((14, 14, 832), "840K", "170M"),
        "inception_5a": _row((7, 7, 832), "1072K", "54M"),
        "inception_5b": _row((7, 7, 1024), "1388K", "71M"),
        "linear": _row((1000,), "1000K", "1M"),
    }
}
TOTALS: dict[str, dict[str, str]] = {"googlenet": {"multiply_adds": "1.5B"}}  # section 1: a budget, at inference
