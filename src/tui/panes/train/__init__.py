"""The Train pane: are my runs all right?"""

from tui.panes.train.pane import TrainPane

PANE = TrainPane
