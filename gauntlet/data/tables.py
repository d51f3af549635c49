"""Tables of images: CSV with one column per pixel, Parquet and Arrow with an encoded image in every row.

The columns that are read are numbers, text and bytes. Extension types, compressed Arrow buffers and paths to other
files are refused: nothing of a table is unpickled, imported or fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.files import Files
from gauntlet.data.flatbuffers import is_compressed
from gauntlet.data.parts import Part, Parts, Rows, grouped, of_arrays, square
from gauntlet.data.pictures import Form
from gauntlet.data.readers import reading
from gauntlet.errors import DataError, one_line
from gauntlet.limits import MAX_COLUMNS, MAX_IMAGES, MAX_NPZ_BYTES, MAX_PICTURE_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("label", "labels", "fine_label", "class", "target", "y", "category", "digit")
"""What a column of labels is called, the likeliest first."""
IMAGES = ("image", "img", "images", "picture", "photo")
COUNTERS = ("", "id", "index", "unnamed: 0")
"""Columns of a CSV that count its rows."""
BATCH = 64
"""Rows that are held at a time."""
LINE = 2**24
"""Bytes of the longest line of a CSV."""


# --- CSV ----------------------------------------------------------------------------------------------------


def read_csv(files: Files, names: Sequence[str]) -> Parts:
    """A label and the pixels in every row: a square of grey ones, or of red, green and blue in turn, row by row."""
    parts = {}
    for part, members in grouped(names, files.where).items():
        if len(members) > 1:
            raise DataError(f"has {len(members)} tables of one part", where=files.where, fix="join them")
        where = files.called(members[0])
        labels, pixels = _csv(files, members[0], where)
        if square(pixels.shape[1]) is None:
            what = f"has {pixels.shape[1]:,} columns of pixels, neither a square of grey nor of coloured ones"
            raise DataError(what, where=where, fix="is there a column that is neither label nor pixel?")
        parts[part] = of_arrays(pixels, labels, where, where)
    return Parts(parts, "csv")


def _csv(files: Files, name: str, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels (n,), numbers or text, and pixels (n, p), uint8 where they are that."""
    from pyarrow import csv

    with files.open(name) as stream:
        columns, header = _header(stream, where)
        label = _column(columns, LABELS, where) if header else columns[0]
        wanted = [column for column in columns if column != label and column.lower() not in COUNTERS]
        types = dict.fromkeys(wanted, "float32") | {label: "string"}
        with reading(where, "a CSV file"):
            reader = csv.open_csv(
                stream,
                csv.ReadOptions(block_size=LINE, column_names=columns, skip_rows=int(header), use_threads=False),
                convert_options=csv.ConvertOptions(column_types=types, include_columns=[label, *wanted]),
            )
            return _rows(reader, len(wanted), where)


def _header(stream: IO[bytes], where: str) -> tuple[list[str], bool]:
    """The names of the columns, and whether the first line has them."""
    line = stream.readline(LINE)
    with reading(where, "a CSV file"):
        fields = [field.strip().strip('"') for field in line.decode("utf-8-sig").split(",")]
    stream.seek(0)
    if len(line) == LINE or not 2 <= len(fields) <= MAX_COLUMNS:
        seen = f"has {len(fields):,} columns" if line.strip() else "begins with an empty line"
        what = f"{seen}, expected a label and up to {MAX_COLUMNS:,} pixels"
        raise DataError(what, where=where, fix="is it separated by commas?")
    header = not all(_is_number(field) for field in fields)
    if header and len(set(fields)) < len(fields):
        raise DataError("has two columns of one name", where=where, fix="name every column once")
    return (fields if header else [f"column {i}" for i in range(len(fields))]), header


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rows(batches: Any, width: int, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    labels: list[NDArray[Any]] = []
    pixels: list[NDArray[Any]] = []
    n = 0
    for batch in batches:
        n += batch.num_rows
        if n > MAX_IMAGES or 4 * n * width > MAX_NPZ_BYTES:
            raise DataError(f"has more than {n:,} rows of {width:,} pixels", where=where, fix="give fewer")
        if batch.num_rows:
            labels.append(_labels(batch.column(0), where))
            pixels.append(_bytes([column.to_numpy(zero_copy_only=False) for column in batch.columns[1:]]))
    if not n:
        raise DataError("has no row", where=where)
    return np.concatenate(labels), np.concatenate(pixels)


def _bytes(columns: list[NDArray[Any]]) -> NDArray[Any]:
    """Columns of float32 side by side, uint8 where nothing is lost."""
    rows = np.stack(columns, axis=1)
    small = bool(((rows >= 0) & (rows <= 255)).all() and (rows == np.floor(rows)).all())
    return rows.astype(np.uint8) if small else rows


# --- Parquet and Arrow --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """The encoded images of one part's files, read in order and decoded when they are taken."""

    files: Files
    names: Sequence[str]
    column: str

    def __call__(self, rows: Rows, form: Form) -> NDArray[Any]:
        return form.decoded(self._chosen(rows), len(rows))

    def _chosen(self, rows: Rows) -> Iterator[tuple[bytes, str]]:
        start = 0
        for name in self.names:
            for batch in _batches(self.files, name, [self.column]):
                end = start + batch.num_rows
                inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
                if len(inside):
                    images, where = _encoded(batch.column(0)), self.files.called(name)
                    for row in inside.tolist():
                        yield _image(images[row - start], f"{where} row {row}"), f"{where} row {row}"
                start = end


def _image(value: Any, where: str) -> bytes:
    if not value.is_valid:
        what = "has no bytes of an image: a missing one, or only its path, which is never followed"
        raise DataError(what, where=where, fix="save the images themselves in the table")
    data = value.as_py()
    if len(data) > MAX_PICTURE_BYTES:
        raise DataError(f"holds more than {MAX_PICTURE_BYTES} bytes", where=where)
    return bytes(data)


def read_table(files: Files, names: Sequence[str]) -> Parts:
    """Parquet files of the Hugging Face hub, or a folder that `datasets` saved: `image` with bytes, and `label`."""
    parts, classes, kind = {}, None, names[0].rpartition(".")[2] or files.where.rpartition(".")[2]
    for part, members in grouped(names, files.where).items():
        with _schema(files, members[0]) as schema:
            where = files.called(members[0])
            label, image = _column(schema.names, LABELS, where), _image_column(schema, where)
            classes = _class_names(schema, label, where) or classes
        labels = [
            _labels(batch.column(0), files.called(name)) for name in members for batch in _batches(files, name, [label])
        ]
        if not sum(map(len, labels)):
            raise DataError("has no row", where=where)
        parts[part] = Part(where, np.concatenate(labels), _Rows(files, members, image))
    return Parts(parts, kind, classes)


def _column(columns: Sequence[str], known: Sequence[str], where: str) -> str:
    """The column that goes by one of these names."""
    lower = {column.lower(): column for column in reversed(columns)}
    if spelled := next((lower[name] for name in known if name in lower), None):
        return spelled
    what = f"has no column called {known[0]}; it has {', '.join(columns)}"
    raise DataError(one_line(what, 300), where=where, fix=f"call it one of {', '.join(known)}")


def _image_column(schema: pa.Schema, where: str) -> str:
    """The column of encoded images: by its type, and by its name where there are several."""
    fitting = [field.name for field in schema if _is_encoded(field)]
    return fitting[0] if len(fitting) == 1 else _column(fitting or ["none of encoded images"], IMAGES, where)


def _is_encoded(field: pa.Field) -> bool:
    import pyarrow as pa

    if isinstance(field.type, pa.BaseExtensionType) or b"ARROW:extension:name" in (field.metadata or {}):
        return False
    kind = field.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _encoded(column: Any) -> Any:
    import pyarrow as pa

    return column.field("bytes") if pa.types.is_struct(column.type) else column


def _labels(column: Any, where: str) -> NDArray[Any]:
    """A column of whole numbers or text as an array; text that is whole numbers counts as such."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    known = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string)
    if isinstance(kind, pa.BaseExtensionType) or not any(is_kind(kind) for is_kind in known):
        what = f"has labels of type {one_line(kind, 60)}"
        raise DataError(what, where=where, fix="expected whole numbers or text")
    if column.null_count:
        raise DataError(f"has {column.null_count} rows without a label", where=where, fix="leave them out")
    return np.asarray(column.to_pylist())


def _class_names(schema: pa.Schema, label: str, where: str) -> tuple[str, ...] | None:
    """The classes' names where the Hugging Face hub's note in the schema has them."""
    note = (schema.metadata or {}).get(b"huggingface")
    if note is None:
        return None
    with reading(where, "a Hugging Face table"):
        names = json.loads(note).get("info", {}).get("features", {}).get(label, {}).get("names")
    return tuple(map(str, names)) if isinstance(names, list) else None


@contextmanager
def _schema(files: Files, name: str) -> Iterator[pa.Schema]:
    with files.open(name) as stream:
        if _is_parquet(stream):
            yield _parquet(stream, files, name).schema_arrow
        else:
            with reading(files.called(name), "an Arrow stream"):
                import pyarrow as pa

                schema = pa.ipc.open_stream(stream).schema
            yield schema


def _batches(files: Files, name: str, columns: list[str]) -> Iterator[Any]:
    """Some columns of a file, a few rows at a time."""
    where = files.called(name)
    with files.open(name) as stream:
        if _is_parquet(stream):
            file = _parquet(stream, files, name)
            with reading(where, "a Parquet file"):
                yield from file.iter_batches(BATCH, columns=columns, use_threads=False)
        else:
            with reading(where, "an Arrow stream"):
                yield from _arrow(stream, columns, where)


def _is_parquet(stream: IO[bytes]) -> bool:
    magic = stream.read(4)
    stream.seek(0)
    return magic == b"PAR1"


def _parquet(stream: IO[bytes], files: Files, name: str) -> Any:
    """An open Parquet file, once what it declares is known to be within limits."""
    from pyarrow import parquet

    where = files.called(name)
    with reading(where, "a Parquet file"):
        file = parquet.ParquetFile(stream, thrift_string_size_limit=2**24, thrift_container_size_limit=2**20)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        total = sum(group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns))
    if file.metadata.num_rows > MAX_IMAGES or total > MAX_NPZ_BYTES:
        what = f"declares {file.metadata.num_rows:,} rows and {total} bytes"
        raise DataError(what, where=where, fix=f"at most {MAX_IMAGES:,} and {MAX_NPZ_BYTES} are read")
    return file


def _arrow(stream: IO[bytes], columns: list[str], where: str) -> Iterator[Any]:
    """The batches of an Arrow stream, none of which is compressed; every offset in them is checked."""
    import pyarrow as pa

    for message in pa.ipc.MessageReader.open_stream(stream):
        if message.type != "schema" and is_compressed(message.metadata.to_pybytes()):
            raise DataError("has compressed buffers", where=where, fix="save it again, uncompressed")
    stream.seek(0)
    for batch in pa.ipc.open_stream(stream):
        chosen = batch.select(columns)
        chosen.validate(full=True)
        yield chosen
