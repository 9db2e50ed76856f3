"""Races: our updates and other libraries', each in its own process, timed in turns."""
