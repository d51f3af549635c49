"""Three other scanners of model files over a list of files, for `benchmarks.scanners`; runs in their environment.

    python other_scanners.py names              the objects on their deny lists, as JSON
    python other_scanners.py scan < files.json  what each says of each file, as JSON

It imports nothing of this project. Each scanner is asked as its own command line asks it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

PICKLES = (".pkl", ".pickle", ".bin", ".joblib", ".dat")
"""What fickling takes for a plain pickle."""
Said = tuple[bool, bool]
"""Whether something was found, and whether all was inspected."""


def fickling(path: str) -> Said:
    """Archives member by member, other files where their names are pickles'."""
    from fickling import scan_file, scan_zip_archive
    from fickling.analysis import Severity

    if zipfile.is_zipfile(path):
        results = list(scan_zip_archive(path, graceful=True).values())
    else:
        results = [scan_file(path, graceful=True)] if path.endswith(PICKLES) else []
    found = any(each.severity > Severity.LIKELY_SAFE for result in results for each in result.results)
    return found, bool(results) and not any(result.errors for result in results)


def picklescan(path: str) -> Said:
    """What its command counts as infected."""
    from picklescan.scanner import scan_file_path  # nosec B403

    result = scan_file_path(path)
    return result.issues_count > 0, result.scanned_files > 0 and not result.scan_err


def modelscan(path: str) -> Said:
    """With its settings as they come."""
    from modelscan.modelscan import ModelScan

    said = ModelScan().scan(path)
    return bool(said["issues"]), said["summary"]["scanned"]["total_scanned"] > 0 and not said["errors"]


SCANNERS: dict[str, Callable[[str], Said]] = {"fickling": fickling, "picklescan": picklescan, "modelscan": modelscan}


def one(scanner: Callable[[str], Said], path: str) -> dict[str, Any]:
    """What one scanner says of one file, or of a folder's; one that fails has not looked."""
    files = [path] if os.path.isfile(path) else sorted(str(each) for each in Path(path).rglob("*") if each.is_file())
    started, found, looked = time.perf_counter(), False, False
    for each in files:
        try:
            said = scanner(each)
        except Exception as error:  # its own errors have no common kind
            said = (False, False)
            logging.debug("%s", error)
        found, looked = found or said[0], looked or said[1]
    return {"found": found, "looked": looked, "seconds": time.perf_counter() - started}


def scan(files: list[str]) -> dict[str, Any]:
    """All scanners over all files, one after the other."""
    said = {}
    for name, scanner in SCANNERS.items():
        scanner(files[0])  # what it imports is not counted
        said[name] = {"version": version(name), "files": [one(scanner, path) for path in files]}
    return said


def names() -> Iterator[tuple[str, str]]:
    """Module and name of every object that one of them holds for dangerous; of a whole module, any name."""
    from fickling.analysis import UnsafeImportsML
    from fickling.fickle import UNSAFE_IMPORTS
    from modelscan.settings import DEFAULT_SETTINGS
    from picklescan.scanner import _unsafe_globals  # nosec B403: a list of names

    lists = [_unsafe_globals, *DEFAULT_SETTINGS["unsafe_globals"].values(), UnsafeImportsML.UNSAFE_IMPORTS]
    for module, listed in (pair for each in lists for pair in each.items()):
        listed = ["run"] if listed == "*" else [listed] if isinstance(listed, str) else listed
        yield from ((module, name) for name in listed)
    yield from ((module, "run") for module in {*UNSAFE_IMPORTS, *UnsafeImportsML.UNSAFE_MODULES})


def main() -> None:
    """Answer in JSON; whatever the scanners print goes to standard error."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr):
        answer = sorted(set(names())) if sys.argv[1:] == ["names"] else scan(json.load(sys.stdin))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
