"""The five panes of the journey, one module or folder each."""
