"""The settings that are known: what they mean and what they do."""
