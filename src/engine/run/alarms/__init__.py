"""What is wrong with a run while it runs, told once, and over when it is over.

The supervisor watches (`watch.Watch`), so that an alarm needs no open window. It
writes each into the run's events and calls the user's command (`hook`); the app
and the verbs only show them (`reading`). The sentences stand in `table`, what
raises an alarm in `curve`, `pace` and `machine`, each with its reasons.
"""

from engine.run.alarms.reading import Reader
from engine.run.alarms.table import say
from engine.run.state import Alarm

__all__ = ["Alarm", "Reader", "say"]
