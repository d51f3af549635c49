"""Every exception the project raises, one tree.

    GauntletError                 exit status 1: something failed
    ├── InputError                exit status 2: the user's input is wrong; one clear line
    │   ├── DataError             a data set: file, field, value
    │   ├── ModelError            a model: file or URI, shape, outputs
    │   ├── SettingError          a parameter: name, value, what is allowed
    │   └── LimitError            a model took more time or memory than it may
    ├── AttackError               an attack broke its promises (shape, NaN, budget, bounds)
    ├── GateError                 a gate was not passed (findings above the allowed severity)
    ├── ClusterError              the scheduler or the workers are gone
    └── TrackingError             the tracking store cannot be reached or read

An `InputError` says what is wrong, where, and what to do:

>>> str(DataError("images and labels differ in number", where="x.npz: y_test", fix="export both together"))
'x.npz: y_test: images and labels differ in number (export both together)'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


class GauntletError(Exception):
    """Base of all errors raised on purpose by this project."""

    exit_status = 1


class InputError(GauntletError):
    """The user's input is wrong: `what` is wrong, `where` (file, field, value), what to do (`fix`)."""

    exit_status = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(f"{where + ': ' if where else ''}{what}{f' ({fix})' if fix else ''}")

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, which Prefect does to a failed run's exception."""
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[InputError], what: str, where: str, fix: str) -> InputError:
    return kind(what, where=where, fix=fix)


class DataError(InputError):
    """A data set cannot be read or is not what it says it is."""


class ModelError(InputError):
    """A model cannot be loaded, or does not fit the data set."""


class SettingError(InputError):
    """A parameter has a value that is not allowed."""


class LimitError(InputError):
    """A model took more time or memory than it may."""


class AttackError(GauntletError):
    """An attack returned something that is not an adversarial batch within its threat model."""


class GateError(GauntletError):
    """A gate was not passed."""


class ClusterError(GauntletError):
    """The scheduler or the workers that shards were sent to are gone."""


class TrackingError(GauntletError):
    """The tracking store cannot be reached, or does not hold what was asked for."""


def meant(word: str, known: Mapping[str, str] | Collection[str]) -> str:
    """What a misspelt word may have been meant to be, behind what is said of it; empty where nothing is near.

    Words that are `known` may be mapped to what is said instead of them.

    >>> meant("PDG", ["fgsm", "pgd"]), meant("xyz", ["fgsm"])
    (', did you mean pgd?', '')
    """
    import difflib

    near = difflib.get_close_matches(word.lower(), known, n=1)
    said = known[near[0]] if near and isinstance(known, Mapping) else "".join(near)
    return f", did you mean {said}?" if near else ""


def one_line(text: object, limit: int = 4096) -> str:
    """`text` as one printable line of at most `limit` characters, for file names and others' messages."""
    line = str(text)
    line = line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= limit else line[: limit - 3] + "..."
