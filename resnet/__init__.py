"""ResNet: deep residual networks and the plain networks they are compared with (He et al. 2016)."""

IS_FAMILY = True
