"""Charts apart from where they are drawn: the lines, the part that is shown, a picture (SVG).

The screen draws them in characters (`tui.widgets.chart`), the picture is for files: what a
chart on the screen is saved as, and the losses beside a model's card.
"""
