"""What takes two parts at once: above them, so that they need not know each other."""
