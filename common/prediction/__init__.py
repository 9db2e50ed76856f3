"""Images of one's own through a trained run: read, classified, embedded and explained."""
