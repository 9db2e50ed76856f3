"""A run's folder: checkpoints, metrics, summary, and the trained network in it."""
