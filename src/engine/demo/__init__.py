"""The demo: the whole journey, from a dataset to a chat, on a real small model."""
