"""The Export pane: give me the model."""

from tui.panes.export.pane import ExportPane

PANE = ExportPane
