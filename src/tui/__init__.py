"""The screen: draws what the engine knows and takes keys. Nothing here is true by itself."""

from tui.parsing import take_turns

take_turns()
