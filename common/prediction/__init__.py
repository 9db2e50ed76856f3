"""A user's images through a trained run: read, classified, embedded and explained."""
