"""Every row looked at, counted and packed as XTuner does it."""
