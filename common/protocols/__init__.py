"""Test protocols: the views of an image that a network sees."""
