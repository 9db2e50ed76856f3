"""Devices: the mesh, sharding, compilation, large memory pages and profiles."""
