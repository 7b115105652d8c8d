"""The Chat pane: is the tuned model better? Asked side by side."""

from tui.panes.chat.pane import ChatPane

PANE = ChatPane
