"""Registries of declarations: settings that have a name, as text (`NAME:key=value,key=value`) or as a mapping.

An attack, a poisoning, a defense, a detector, a theft is one frozen pydantic class. Its registry gives the type of flow
parameters, reads the command line, and includes classes of other packages, which name them as entry points:

    [project.entry-points."gauntlet.attacks"]
    sweep = "my_package.sweep:Sweep"
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, TypeVar, Union, get_origin

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from gauntlet.errors import SettingError, meant, one_line
from gauntlet.threat import number

T = TypeVar("T", bound=BaseModel)
GROUPS = "gauntlet."
"""What the groups of entry points begin with: `gauntlet.attacks`, `gauntlet.defenses`, ..."""


class Registry(dict[str, type[T]], Generic[T]):
    """The declared classes of one kind by their names: the project's own, then those of other packages."""

    def __init__(self, what: str, base: type[T], *kinds: type[T], renamed: Mapping[str, str] | None = None) -> None:
        """`what` names one of them in messages; old names in `renamed` are still understood."""
        super().__init__({_name(kind): kind for kind in kinds})
        self.what, self.renamed = what, dict(renamed or {})
        for point in _points().get(f"{GROUPS}{what}s", ()):
            self._take(point, base)

    def parse(self, given: Any) -> Any:
        """Text to settings, old names to new ones; anything else passes unchanged.

        A value with commas is bracketed: `noise-gaussian:std=[0.1,0.3]`. Raises `SettingError`.
        """
        if isinstance(given, dict) and given.get("name") in self.renamed:
            return given | {"name": self.renamed[given["name"]]}
        if not isinstance(given, str):
            return given
        name, _, rest = given.partition(":")
        name = self.renamed.get(name, name)
        if name not in self:
            several = "; repeat the flag for several" if "," in name else ""
            fix = f"one of {', '.join(self)}{meant(name, list(self))}{several}"
            raise SettingError(f"unknown {self.what} {name[:80]!r}", where=self.what, fix=fix)
        return _validated(self[name], dict(_pairs(rest, self[name], self.what)))

    def make(self, settings: str | dict[str, Any]) -> T:
        """The declaration of text as on the command line, or of a mapping with its `name`."""
        checked: T = TypeAdapter(self.annotation).validate_python(settings)
        return checked

    @property
    def declared(self) -> Any:
        """The union of all classes, told apart by their names."""
        kinds = tuple(self.values())
        return Annotated[Union[kinds], Field(discriminator="name")] if len(kinds) > 1 else kinds[0]  # noqa: UP007

    @property
    def annotation(self) -> Any:
        """The type of a parameter: one of the classes, or text."""
        return Annotated[self.declared, BeforeValidator(self.parse, json_schema_input_type=self.declared | str)]

    def _take(self, point: EntryPoint, base: type[T]) -> None:
        """Add another package's class; what cannot be used is left out, with a warning of one line."""
        try:
            kind = point.load()
            problem = _problem(kind, base, self)
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if problem:
            origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            warnings.warn(f"{self.what} {point.name!r} of {origin} is left out: {problem}", stacklevel=4)
        else:
            self[_name(kind)] = kind


def check_once(values: Iterable[Any], where: str) -> None:
    """Raise `SettingError` for a value that is there twice: two results could not be told apart by their settings."""
    seen: list[Any] = []
    for value in values:
        if value in seen:
            shown, alike = (value.name, " with the same settings") if hasattr(value, "name") else (value, "")
            what = f"{one_line(shown, 80)} is given twice{alike}"
            raise SettingError(what, where=where, fix="give it once")
        seen.append(value)


def plugins() -> dict[str, str]:
    """The packages that declare something for Gauntlet, with their versions: results depend on them."""
    return {point.dist.name: point.dist.version for points in _points().values() for point in points if point.dist}


@functools.cache
def _points() -> dict[str, tuple[EntryPoint, ...]]:
    points = entry_points()
    return {group: tuple(points.select(group=group)) for group in points.groups if group.startswith(GROUPS)}


def _problem(kind: Any, base: type[BaseModel], known: Mapping[str, Any]) -> str:
    """Why a class of another package cannot be registered; empty when it can."""
    if not (isinstance(kind, type) and issubclass(kind, base)):
        return f"it is no {base.__name__}"
    if not kind.model_config.get("frozen"):
        return "its settings can be changed: it must be frozen"
    if not isinstance(kind.model_fields["name"].default, str):
        return 'it has no name: Literal["..."] = "..."'
    return f"the name {_name(kind)!r} is taken" if _name(kind) in known else ""


def _name(kind: type[BaseModel]) -> str:
    name: str = kind.model_fields["name"].default
    return name


def _validated(kind: type[BaseModel], settings: dict[str, Any]) -> BaseModel:
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ":".join([_name(kind), *map(str, first["loc"][:1])])
        what = f"{first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
        raise SettingError(what, where=where) from None


def _pairs(text: str, kind: type[BaseModel], what: str) -> Iterator[tuple[str, Any]]:
    """The settings of `key=value,...`, each known to `kind`."""
    known, seen = [key for key in kind.model_fields if key != "name"], set[str]()
    for pair in _split(text):
        key, equals, value = pair.partition("=")
        if not equals or key not in known:
            fix = f"key=value with {', '.join(known)}{meant(key, known)}"
            raise SettingError(f"{pair[:80]!r} is not a setting of {_name(kind)}", where=what, fix=fix)
        if key in seen:
            raise SettingError(f"{key} of {_name(kind)} is given twice", where=what, fix="give it once")
        seen.add(key)
        yield key, _value(kind, key, value)


def _value(kind: type[BaseModel], key: str, value: str) -> Any:
    """A list where it is bracketed, or where the field takes nothing else; `8/255` is a number."""
    if value.startswith("[") and value.endswith("]"):
        return [number(item) for item in value[1:-1].split(",")]
    return [number(value)] if get_origin(kind.model_fields[key].annotation) is tuple else number(value)


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
