"""The config pane: will this run, fit and finish?"""

from tui.panes.config.pane import ConfigPane

PANE = ConfigPane
