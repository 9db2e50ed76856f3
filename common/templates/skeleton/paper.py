"""The paper's counts, which `python -m common.inspect` prints beside ours and a test compares with them."""

from typing import Any

# For grey images of 16x16 pixels and ten classes. A layer has a weight for each input in a window and each map, and a
# bias for each map.
LAYERS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "conv1": {"output_shape": (16, 16, 16), "parameters": 160},
        "conv2": {"output_shape": (8, 8, 32), "parameters": 4_640},
        "fc": {"output_shape": (10,), "parameters": 5_130},
    },
}
TOTALS: dict[str, dict[str, int]] = {"small": {"parameters": 9_930}}
