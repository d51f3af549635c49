"""Whether the buffers of an Arrow message are compressed, which Arrow's Python package does not say.

A compressed buffer states its own unpacked size, which is allocated at once. The header of a message is a
FlatBuffer (Arrow's `Message.fbs`): a table's first word leads back to a list of where its fields are.
"""

from __future__ import annotations

import struct

KIND, HEADER, COMPRESSION = 1, 2, 3
"""Places of `Message.header_type`, `Message.header` and `RecordBatch.compression` among the fields."""
RECORD_BATCH = 3
"""The kind of a message that holds rows; dictionaries, which are shared between batches, are 2."""


def is_compressed(message: bytes) -> bool:
    """Whether a record batch's header speaks of compressed buffers; true where it is of another kind."""
    try:
        (root,) = struct.unpack_from("<I", message)
        kind, header = _field(message, root, KIND), _field(message, root, HEADER)
        if kind is None or header is None or message[kind] != RECORD_BATCH:
            return True
        (ahead,) = struct.unpack_from("<I", message, header)
        return _field(message, header + ahead, COMPRESSION) is not None
    except (struct.error, IndexError):
        return True


def _field(message: bytes, table: int, place: int) -> int | None:
    """Where a table's field is, None where the table has none."""
    (back,) = struct.unpack_from("<i", message, table)
    (size,) = struct.unpack_from("<H", message, table - back)
    slot = 4 + 2 * place
    if slot + 2 > size:
        return None
    (ahead,) = struct.unpack_from("<H", message, table - back + slot)
    return table + ahead if ahead else None
