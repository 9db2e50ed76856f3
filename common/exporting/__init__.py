"""Trained runs as programs that need nothing of Lineage: StableHLO, ONNX, and the card that describes them."""
