"""Replacing in Parquet and Arrow files: a new file with the same schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from engine.dataset.editing.changes import Changes
from engine.dataset.editing.editor import Edit, JsonEditor, Wanted
from engine.dataset.files.columnar import ColumnarPart, damaged
from engine.dataset.files.decode import BadRow
from engine.dataset.files.sniff import ARROW_FILE
from engine.dataset.files.source import SourceFile


def replace_table(
    part: ColumnarPart, wanted: Wanted, sink: IO[bytes] | None, changes: Changes
) -> None:
    """Write the rows of `part` to `sink` (None: nowhere) with what is `wanted` replaced.

    Schema, order, compression and the sizes of row groups and batches stay as they are.
    Raises `Problem` when the file is damaged.
    """
    editor = _BatchEditor(part.schema, wanted, changes)
    row = 0
    try:
        with _writer(part, sink) as writer:
            for batch in _batches(part):
                edited = editor.edit(batch, row)
                if writer is not None:
                    writer.write_batch(edited)
                row += batch.num_rows
                changes.tell(part.size * batch.num_rows // max(1, part.known or row))
    except (ValueError, EOFError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise damaged(part.path, error) from error
    changes.rows += row


def _batches(part: ColumnarPart) -> Iterator[Any]:
    """The file's own batches; a row group of Parquet is one."""
    file = SourceFile(part.source)
    if part.format == "parquet":
        from pyarrow import parquet

        reader = parquet.ParquetFile(file)
        for number in range(reader.num_row_groups):
            table = reader.read_row_group(number, use_threads=False).combine_chunks()
            yield from table.to_batches()
        return
    from pyarrow import ipc

    if part.source.read(0, len(ARROW_FILE)) == ARROW_FILE:
        opened = ipc.open_file(file)
        for number in range(opened.num_record_batches):
            yield opened.get_batch(number)
    else:
        yield from ipc.open_stream(file)


class _Nowhere:
    """A writer for a dry run."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_exception: object) -> None:
        return None


def _writer(part: ColumnarPart, sink: IO[bytes] | None) -> Any:
    if sink is None:
        return _Nowhere()
    if part.format == "parquet":
        from pyarrow import parquet

        found = parquet.ParquetFile(SourceFile(part.source)).metadata
        groups = range(found.num_row_groups)
        packed = {
            found.row_group(group).column(column).compression
            for group in groups
            for column in range(found.num_columns)
        }
        compression = packed.pop() if len(packed) == 1 else "SNAPPY"
        return parquet.ParquetWriter(
            sink, part.schema, compression="NONE" if compression == "UNCOMPRESSED" else compression
        )
    from pyarrow import ipc

    if part.source.read(0, len(ARROW_FILE)) == ARROW_FILE:
        return ipc.new_file(sink, part.schema)
    return ipc.new_stream(sink, part.schema)


class _BatchEditor:
    """Edits the texts in a batch's columns, however deep they lie."""

    def __init__(self, schema: Any, wanted: Wanted, changes: Changes) -> None:
        self._wanted = wanted
        self._changes = changes
        self._json = _json_columns(schema)
        self._json_editor = JsonEditor(wanted)

    def edit(self, batch: Any, first: int) -> Any:
        """`batch`, whose first row is `first`, with the columns that change made anew."""
        import pyarrow as pa

        columns = list(batch.columns)
        found: dict[int, list[Edit]] = {}
        for number, field in enumerate(batch.schema):
            if not _texts(field.type):
                continue
            values = columns[number].to_pylist()
            changed = False
            for place, value in enumerate(values):
                edits: list[Edit] = []
                edit = self._as_json if field.name in self._json else self._value
                values[place] = edit(value, (field.name,), field.name, edits)
                if edits:
                    changed = True
                    found.setdefault(place, []).extend(edits)
            if changed:
                columns[number] = pa.array(values, type=field.type)
        for place in sorted(found):
            self._changes.add(first + place, None, found[place])
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema) if found else batch

    def _value(self, value: Any, keys: tuple[str, ...], field: str, edits: list[Edit]) -> Any:
        if isinstance(value, str):
            if not self._wanted.field(keys):
                return value
            after, times = self._wanted.replace(value)
            if after != value:
                edits.append(Edit(field, value, after, times))
            return after
        if isinstance(value, list):
            return [
                self._value(item, keys, f"{field}[{number}]", edits)
                for number, item in enumerate(value)
            ]
        if isinstance(value, dict):
            return {
                name: self._value(item, (*keys, str(name)), f"{field}.{name}", edits)
                for name, item in value.items()
            }
        return value

    def _as_json(self, value: Any, keys: tuple[str, ...], field: str, edits: list[Edit]) -> Any:
        """A text that `datasets` keeps in place of a value: JSON, which must stay JSON."""
        if not isinstance(value, str):
            return value
        try:
            after, inner = self._json_editor.edit(value.encode())
        except BadRow:
            return self._value(value, keys, field, edits)
        edits += [edit._replace(field=f"{field}.{edit.field}".rstrip(".")) for edit in inner]
        return after.decode()


def _texts(kind: Any) -> bool:
    """Whether a column of this type holds texts."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _texts(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_texts(kind.field(number).type) for number in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _texts(kind.value_type)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _json_columns(schema: Any) -> set[str]:
    """The columns that `datasets` keeps as JSON text."""
    described = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(described)["info"]["features"] if described else {}
        return {name for name, one in features.items() if one.get("_type") == "Json"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()
