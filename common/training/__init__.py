"""The training state and the steps that change or evaluate it."""
