"""Claims of papers and the curves that show them."""
