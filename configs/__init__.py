"""Experiments, one a file: FAMILY_DATASET[_WHAT].py."""
