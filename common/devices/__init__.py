"""Devices: mesh, sharding, compilation, memory pages and profiles."""
