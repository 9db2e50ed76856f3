"""The lecture's pictures, drawn with the code that the networks here use: `make pictures`."""
