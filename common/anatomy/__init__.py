"""The parts of a network: layers, receptive fields, memory."""
