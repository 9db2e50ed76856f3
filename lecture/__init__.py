"""The lecture's identities and exercises, each checked against the layer, loss or optimizer that is it here."""
