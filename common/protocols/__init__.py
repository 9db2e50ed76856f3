"""Test protocols: which views of an image a network sees."""
