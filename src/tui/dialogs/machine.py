"""The machine in words: what each GPU does, whose processes sit there, the host."""

from __future__ import annotations

from collections.abc import Iterator

from engine.i18n import _
from engine.text import one_line, size
from tui.watch import Sight
from tui.widgets.gauge import bar


def machine_lines(sight: Sight) -> Iterator[str]:
    """Lines for the machine screen."""
    if not sight.gpus.gpus:
        yield sight.gpus.reason
    for one in sight.gpus.gpus:
        yield f"GPU{one.id}  {one_line(one.name)}"
        share = bar(one.used, one.total, 20)
        yield f"  {_('memory')}  {share}  {size(one.used)} / {size(one.total)}"
        facts = [f"{one.util} %"] if one.util is not None else []
        facts += [f"{one.temperature} °C"] if one.temperature is not None else []
        facts += [f"{one.power:.0f} W"] if one.power is not None else []
        yield "  " + "   ".join(facts)
        if one.processes is None:
            yield "  " + _("processes cannot be listed here")
        for process in one.processes or []:
            memory = "?" if process.memory is None else size(process.memory)
            yield f"  {process.pid:>8}  {process.user or '?':12} {process.name or '?':20} {memory}"
        yield ""
    yield from sight.gpus.notes
    host = sight.host
    yield f"CPU     {host.cpu:.0f} %  ({host.cores})"
    yield f"{_('memory')}  {size(host.memory_used)} / {size(host.memory_total)}"
    yield f"{_('disk')}    " + _("{free} free of {total}").format(
        free=size(host.disk_free), total=size(host.disk_total)
    )
