"""The code that all architectures share: configuration, data, the training loop and the tools around it."""
