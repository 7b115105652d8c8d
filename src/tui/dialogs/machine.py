"""The machine in words: what each GPU does, whose processes sit there, the host."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len

from engine.i18n import _, ngettext
from engine.text import one_line, size
from tui.watch import Sight
from tui.widgets.cells import fit
from tui.widgets.gauge import bar


def machine_lines(sight: Sight) -> Iterator[str]:
    """Lines for the machine screen."""
    if not sight.gpus.gpus:
        yield sight.gpus.reason
    for one in sight.gpus.gpus:
        yield f"GPU{one.id}  {one_line(one.name)}"
        share = bar(one.used, one.total, 20)
        yield f"  {_('memory')}  {share}  {size(one.used)} / {size(one.total)}"
        figures = [f"{one.util} %"] if one.util is not None else []
        figures += [f"{one.temperature} °C"] if one.temperature is not None else []
        figures += [f"{one.power:.0f} W"] if one.power is not None else []
        yield "  " + "   ".join(figures)
        if one.processes is None:
            yield "  " + _("processes cannot be listed here")
        for process in one.processes or []:
            memory = "?" if process.memory is None else size(process.memory)
            user, name = (one_line(part or "?") for part in (process.user, process.name))
            yield f"  {process.pid:>8}  {fit(user, 12)} {fit(name, 20)} {memory}"
        yield ""
    yield from sight.gpus.notes
    host = sight.host
    cores = ngettext("{count} core", "{count} cores", host.cores).format(count=host.cores)
    facts = {
        "CPU": f"{host.cpu:.0f} %  ({cores})",
        _("memory"): f"{size(host.memory_used)} / {size(host.memory_total)}",
        _("disk"): _("{free} free of {total}").format(
            free=size(host.disk_free), total=size(host.disk_total)
        ),
    }
    widest = max(map(cell_len, facts))
    yield from (f"{fit(name, widest)}  {value}" for name, value in facts.items())
