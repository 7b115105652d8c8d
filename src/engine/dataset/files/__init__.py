"""Files of every format opened, their rows found, cut out and decoded."""
