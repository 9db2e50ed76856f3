"""Initial values from a run or from a file of weights."""
