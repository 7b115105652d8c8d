"""Widgets that know nothing of Tunedeck: they draw what they are given and post keys."""
