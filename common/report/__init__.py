"""A trained run as one page of pictures."""
