"""Formulations of convolutions for XLA's CPU backend; the shapes of a layer decide which of them it uses."""
