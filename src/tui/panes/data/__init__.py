"""The Data pane: is my data right, as the model will see it?"""

from tui.panes.data.pane import DataPane

PANE = DataPane
