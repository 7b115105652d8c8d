"""What a training takes: GPU memory, disk and time."""
