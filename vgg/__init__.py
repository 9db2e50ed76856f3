"""VGG (2014): eleven to nineteen layers of 3x3 convolutions."""

IS_FAMILY = True
