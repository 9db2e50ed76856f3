"""Several runs, finished or not, side by side on one page."""
