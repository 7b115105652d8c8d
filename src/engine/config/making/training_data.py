"""The user's data as a config names it: how it is loaded, mapped and asked about.

The dataset part knows the data, this part the config; `engine.joined.copying` hands this over.
"""

from __future__ import annotations

from typing import Any

import msgspec


class TrainingData(msgspec.Struct, frozen=True):
    """What a config has to say to train on some files."""

    loader: str
    """"load_dataset" or "load_from_disk", of the datasets library."""
    arguments: dict[str, Any]
    """The loader's keyword arguments: files in ``data_files["train"]`` or ``dataset_path``."""
    shape: str
    """"xtuner", "alpaca", "openai", "text", …; "" for rows of no known shape."""
    rows: list[Any]
    """A few rows, as the loader gives them."""
    size: int
    """Bytes on the disk."""
    map_fn: tuple[str, str] | None = None
    """Module and name of the dataset_map_fn; None: the rows need none."""
    module: str = ""
    """The text of that module, where it is written beside the config; "": it is installed."""
    questions: tuple[str, ...] = ()
    """Some questions of the data, to ask while it trains."""
    system: str | None = None
    """The system text that all the rows have; None where they differ."""
    name: str = ""
    """What to call the data in messages."""
    notes: tuple[str, ...] = ()
    """What a person should know about how it is read."""

    @property
    def files(self) -> str | list[str]:
        """The file, files or folder that the rows come from."""
        if self.loader == "load_from_disk":
            return str(self.arguments["dataset_path"])
        files = self.arguments["data_files"]
        found = files["train"] if isinstance(files, dict) else files
        if isinstance(found, str):
            return found
        return str(found[0]) if len(found) == 1 else [str(one) for one in found]
