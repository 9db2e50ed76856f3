"""Faults, damages and random input: what runs survive, counted."""
