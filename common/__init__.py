"""What every architecture shares: configuration, data, the training loop and the tools around it."""
