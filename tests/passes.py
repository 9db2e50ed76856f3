"""The passes of each collective over the parameters, data parallel and fully sharded: `python -m tests.passes`."""

import json

from benchmarks import scaling

WIDE = {"hidden_size": 128, "mlp_dim": 512, "depth": 4}

if __name__ == "__main__":
    print(json.dumps({fsdp: scaling.passes("vit", "nano4", 16, fsdp, **WIDE) for fsdp in (1, 8)}))
