"""TFDS builders for datasets that TFDS lacks: one module each, found by its name."""
