"""Trained runs as programs that need nothing of Lineage (StableHLO, ONNX, SavedModel), and the card of each."""
