"""Talking with models: the worker that runs them, and how their prompts are built."""
