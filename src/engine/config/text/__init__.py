"""A config's text: read by value, edited without touching anything else."""
