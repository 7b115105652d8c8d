"""A config of one's own, pointed at one's own data and model."""
