"""The lecture: identities and exercises checked against the code that is them here, and pictures drawn with it."""
