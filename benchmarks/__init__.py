"""Measurements of speed, as ratios within one run, and of the faults and damages that runs survive."""
