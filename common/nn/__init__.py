"""Layers, convolutions and losses that networks of several families are made of."""
