"""Several finished or unfinished runs beside each other on one page."""
