"""Processes that train together, and how they start, stop and fail."""
