"""Datasets: reading, ordering, preparing and augmenting examples."""
