"""Slurm as a launcher: what is asked of it, what it says, and our part inside its jobs."""
