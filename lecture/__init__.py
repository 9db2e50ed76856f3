"""The lecture: its identities and exercises, checked with the code of the networks here, and pictures drawn with it."""
