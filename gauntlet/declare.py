"""Settings as text: `NAME:key=value,key=value`, read against a registry of declarations."""

from __future__ import annotations

from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from gauntlet.errors import SettingError


def parse_declaration(text: Any, registry: dict[str, type[Any]], what: str) -> Any:
    """Read `NAME:key=value,...` against a registry; anything but text passes unchanged.

    A value with commas is bracketed: `noise-gaussian:std=[0.1,0.3]`. Raises `SettingError`, which names what is known.
    """
    if not isinstance(text, str):
        return text
    name, _, rest = text.partition(":")
    if name not in registry:
        raise SettingError(f"unknown {what} {name[:80]!r}", where=what, fix=f"one of {', '.join(registry)}")
    settings: dict[str, Any] = {"name": name}
    for pair in _split(rest):
        key, equals, value = pair.partition("=")
        if not equals or key not in registry[name].model_fields:
            known = ", ".join(k for k in registry[name].model_fields if k != "name")
            raise SettingError(f"{pair[:80]!r} is not a setting of {name}", where=what, fix=f"key=value with {known}")
        settings[key] = _value(registry[name], key, value)
    try:
        return registry[name](**settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ":".join([name, *map(str, first["loc"][:1])])
        raise SettingError(
            f"{first['msg'].removeprefix('Value error, ')}, got {first['input']!r}", where=where
        ) from None


def _value(kind: type[BaseModel], key: str, value: str) -> Any:
    """A list where it is bracketed, or where the field takes nothing else."""
    if value.startswith("[") and value.endswith("]"):
        return value[1:-1].split(",")
    return [value] if get_origin(kind.model_fields[key].annotation) is tuple else value


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part]
