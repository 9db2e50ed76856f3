"""Layers, batch normalisation and losses that several families share."""
