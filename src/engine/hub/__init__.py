"""Datasets and models by name, from Hugging Face or ModelScope, through their own clients."""
