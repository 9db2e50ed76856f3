"""Optimizers, learning-rate schedules and the plan of a run, from a config."""
