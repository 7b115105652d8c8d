"""The catalogue: which configs there are, what each trains, and how one is found."""
