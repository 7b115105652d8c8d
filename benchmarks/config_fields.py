"""How much of XTuner's catalogue the form covers, and what an edit costs.

python benchmarks/config_fields.py
"""

from __future__ import annotations

import time

from engine.config.known import fields
from engine.config.known.field_table import TABLE
from engine.config.stock import catalogue
from engine.config.text.source import ConfigSource
from engine.settings import Settings


def main() -> None:
    """Print the counts over all configs, and the time of opening and of one edit."""
    entries = catalogue.load(Settings())
    shown = explained = 0
    names = set()
    opening = editing = 0.0
    for entry in entries:
        start = time.process_time()
        source = ConfigSource.open(entry.path)
        opening += time.process_time() - start
        for field in fields.fields(source):
            shown += 1
            explained += bool(field.help)
            names.add(field.name)
        start = time.process_time()
        source.set("model.type", source.get("model.type"))
        editing += time.process_time() - start
    count = len(entries)
    print(f"{count} configs; {len(TABLE)} settings known, under {len(names)} names")
    print(f"{shown / count:.1f} settings a config, {explained / shown:.2%} of them explained")
    print(f"open {opening / count * 1e3:.1f} ms, an edit {editing / count * 1e3:.1f} ms (CPU)")


if __name__ == "__main__":
    main()
