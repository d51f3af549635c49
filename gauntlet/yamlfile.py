"""A YAML file that a person wrote: read as plain data, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gauntlet.errors import SettingError, one_line

MAX_BYTES = 2**20


class _Once(yaml.SafeLoader):
    """Refuses a key that comes twice in one mapping: of two values neither is the one that is meant."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """The mapping of a node."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            if key.value in [before.value for before in keys[:place]]:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def read(path: Path, fix: str) -> Any:
    """What the file holds; `SettingError`, with `fix` to do, when it cannot be read or is no YAML."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SettingError(f"larger than {MAX_BYTES:,} bytes", where=path.name, fix=fix)
        return _Once(data).get_single_data()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingError(f"cannot be read: {reason}", where=one_line(path), fix=fix) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date of no calendar is a ValueError
        raise SettingError(f"not YAML: {' '.join(str(error).split())[:300]}", where=path.name, fix=fix) from error
