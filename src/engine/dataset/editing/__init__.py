"""New files made of old ones, the same to the byte around what changes."""
