"""A config may import modules that lie beside it, as the trainer lets it."""

from __future__ import annotations

from pathlib import Path

from engine.config import references


def test_what_lies_beside_counts_as_installed_for_as_long_as_it_lies_there(tmp_path: Path) -> None:
    own = tmp_path / "mine_map.py"
    assert references.missing("mine_map") == "mine_map"
    with references.beside(tmp_path):
        assert references.missing("mine_map") == "mine_map"
        own.write_text('def map_fn(example):\n    return {"conversation": example["talk"]}\n')
        assert references.missing("mine_map") == ""
        assert references.exists("mine_map", "map_fn") is True
        assert references.exists("mine_map", "map") is False
        assert references.columns("mine_map", "map_fn") == ["talk"]
        own.write_text('def map_fn(example):\n    return {"conversation": example["new"]}  # now\n')
        assert references.columns("mine_map", "map_fn") == ["new"]
        (tmp_path / "json.py").write_text("")
        assert references.exists("json", "loads") is True, "a library goes before"
    assert references.missing("mine_map") == "mine_map"
