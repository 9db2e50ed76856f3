"""TFDS builders for datasets that TFDS does not have: one module each, found by its name."""
