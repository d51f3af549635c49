"""Protocol buffers, read from their bytes: fields of (number, wire type, value)."""

from __future__ import annotations

from collections.abc import Iterator


def at(message: bytes, way: tuple[int, ...]) -> Iterator[bytes]:
    """The values at a path of field numbers."""
    if not way:
        yield message
        return
    for number, value in fields(message):
        if number == way[0]:
            yield from at(value, way[1:])


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that have a length; numbers are passed by. `ValueError` for what is no message."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:  # some readers drop the bits above, and see another field
            raise ValueError(f"field {number}")
        if wire == 0:
            _, place = _varint(message, place)
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        elif wire == 2:
            size, place = _varint(message, place)
            if place + size > len(message):
                raise ValueError("a field ends behind the file")
            yield number, message[place : place + size]
            place += size
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        value, place = value | (message[place] & 0x7F) << shift, place + 1
        if message[place - 1] < 0x80:
            return value, place
    raise ValueError("a number does not end")
