"""Trying the settings for alarms before one is needed."""

from __future__ import annotations

import platform
import time
from pathlib import Path

from engine.errors import Failed, Problem
from engine.i18n import _
from engine.machine.doctor import Check
from engine.run.alarms import table
from engine.run.alarms.hook import Call, Message, Outcome
from engine.run.state import Alarm
from engine.settings import Alarms


def checks(chosen: Alarms) -> list[Check]:
    """What `doctor` says about alarms; nothing where nothing is set."""
    found = []
    if chosen.hook:
        fix = _("`tunedeck doctor --try-hook` calls it once.")
        found.append(Check(_("alarm command"), None, chosen.hook, fix))
    unknown = [code for code in chosen.off if code not in table.CODES]
    if unknown:
        detail = _("alarms.off names what is no alarm: {codes}").format(codes=", ".join(unknown))
        fix = _("There are: {codes}").format(codes=", ".join(sorted(table.CODES)))
        found.append(Check(_("alarms"), False, detail, fix))
    return found


def attempt(chosen: Alarms, folder: Path) -> Outcome:
    """Call the user's command as an alarm about a loss that is not a number would."""
    if not chosen.hook:
        raise Problem(
            _("No command for alarms is set"),
            "",
            _('Write into the settings: [alarms] and under it hook = "COMMAND" (docs/alarms.md).'),
        )
    alarm = Alarm("loss-nan", {"step": "120"})
    reason, todo = table.say(alarm)
    message = Message(
        event="alarm",
        run=_("a-trial"),
        dir=str(folder),
        host=platform.node(),
        time=time.time(),
        state="training",
        text=reason,
        todo=todo,
        code=alarm.code,
        values=alarm.values,
        step=130,
        steps=1000,
    )
    try:
        call = Call(chosen.hook, message)
    except OSError as error:
        raise Failed(_("The command did not start"), error.strerror or str(error)) from error
    while (outcome := call.poll()) is None:
        time.sleep(0.05)
    return outcome
