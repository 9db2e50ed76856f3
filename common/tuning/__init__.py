"""The search for hyper-parameters on a validation set."""
