"""The Vision Transformer (Dosovitskiy et al. 2021): every size, hybrids, checkpoints and pictures of attention."""

IS_FAMILY = True
