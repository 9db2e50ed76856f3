"""Claims of papers, and the curves that illustrate them."""
