"""The two map modules that we write for datasets: real code, whose constants are filled in.

`engine.dataset.mapping` makes copies of them, with other constants, to stand beside
a config. They import nothing but the standard library.
"""
