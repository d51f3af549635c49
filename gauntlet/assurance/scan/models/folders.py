"""A model that is a folder: MLflow's, a SavedModel, Keras' own, or any folder of model files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gauntlet.assurance.scan.models import configs, savedmodel
from gauntlet.assurance.scan.models.files import NOT_A_MODEL, scan_stream
from gauntlet.assurance.scan.models.pickles import BadPickleError, scan_pickles
from gauntlet.assurance.scan.models.rules import Look, escapes

_TEXTS = ("", ".cfg", ".csv", ".json", ".md", ".toml", ".txt", ".yaml", ".yml")
_SOURCES = (".py", ".pyc", ".pyd", ".pyx", ".so", ".dll", ".dylib", ".sh", ".ipynb")
_FLAVORS = {"python_function", "sklearn", "keras", "tensorflow", "pytorch", "xgboost", "lightgbm", "onnx"}
"""Flavors whose way of loading is known: all but scikit-learn's skops and Keras' are told when they unpickle."""


def scan_folder(root: Path, look: Look) -> None:
    """Look into every file below a folder."""
    referenced, models = _described(root, look), 0
    for path in _files(root, look):
        file = path.relative_to(root).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            look.hit("GM007", file, f"a link to {os.readlink(path)!r}")
        elif not path.is_file():
            look.error(file, "not a regular file")
        elif file not in referenced and _is_inert(path, file, look):
            continue
        else:
            models += 1
            _model(path, file, look)
    if not models and not look.findings:
        look.error(root.name, f"a folder without a model file: {NOT_A_MODEL}")


def _files(root: Path, look: Look) -> Iterator[Path]:
    """Every file, in order; not below links to folders."""
    count = 0
    for folder, names, files in os.walk(root, onerror=lambda error: look.error(str(error.filename), "cannot be read")):
        names.sort()
        for name in sorted(files + [name for name in names if Path(folder, name).is_symlink()]):
            count += 1
            if count > look.limits.files:
                look.error(root.name, f"only the first {look.limits.files:,} files were inspected")
                return
            yield Path(folder, name)


def _model(path: Path, file: str, look: Look) -> None:
    """A file that something loads."""
    if path.name == "saved_model.pb":
        savedmodel.scan_saved_model(path, file, look)
    elif path.name == "keras_metadata.pb":
        savedmodel.scan_metadata(path, file, look)
    elif path.suffix in _SOURCES:
        look.error(file, "code is not inspected here (--path scans Python)")
    else:
        try:
            with path.open("rb") as stream:
                scan_stream(stream, file, look)
        except PermissionError:
            look.error(file, "cannot be read")


def _is_inert(path: Path, file: str, look: Look) -> bool:
    """Whether nothing runs or unpickles the file: text, or the numbers of a SavedModel."""
    if (path.parent.parent / "saved_model.pb").is_file() and path.parent.name == "variables":
        return _is_variables(path)
    if path.name == "fingerprint.pb" and path.with_name("saved_model.pb").is_file():
        return True
    if path.suffix.lower() not in _TEXTS or path.stat().st_size > look.limits.text_bytes:
        return False
    try:
        content = path.read_bytes()
        content.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if path.suffix == ".json":
        configs.scan_text(content, file, "the file", look)
    for rule, pattern in _SPEAKING:
        if match := pattern.search(content):
            look.hit(rule, file, f"holds {match.group().decode('utf-8', 'replace')!r}")
    return not _is_pickle(path, file, look)


_SPEAKING = (
    ("GM003", re.compile(rb"!!python/[\w/.:]{1,80}")),
    (
        "GM015",
        re.compile(rb"(?m)^\s*(?:- )?(?:--(?:extra-)?index-url|--find-links|--trusted-host|-i|-f)[ =][^\n]{0,80}"),
    ),
)
"""What makes a text run or fetch code: YAML that builds Python objects, packages from somebody's own index."""


def _is_variables(path: Path) -> bool:
    """Whether a file beside a SavedModel is what TensorFlow keeps variables in: a table, or bare numbers."""
    if path.name.endswith(".index"):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8))
            return file.read(8) == bytes.fromhex("57fb808b247547db")  # of LevelDB's tables
    return re.fullmatch(r"variables\.data-\d{5}-of-\d{5}", path.name) is not None


def _is_pickle(path: Path, file: str, look: Look) -> bool:
    """Whether a text is a whole pickle of protocol 0, or one that names something dangerous before it breaks."""
    trial = Look(look.limits)
    try:
        with path.open("rb") as stream:
            scan_pickles(stream, file, trial)
    except BadPickleError:
        return any(finding.severity == "high" for finding in trial.findings.values())
    return True


def _described(root: Path, look: Look) -> set[str]:
    """Judge what every `MLmodel` below the folder says of the flavors; returns the files that they name."""
    named: set[str] = set()
    for path in sorted(root.rglob("MLmodel"))[: look.limits.files]:
        below = path.parent.relative_to(root)
        named |= {(below / text).as_posix() for text in _one_described(path, (below / "MLmodel").as_posix(), look)}
    return named


def _one_described(path: Path, file: str, look: Look) -> set[str]:
    try:
        content = yaml.safe_load(path.read_bytes()[: look.limits.text_bytes])
        flavors = dict(content["flavors"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        look.error(file, f"not a description that can be read: {type(error).__name__}")
        return set()
    for name, settings in flavors.items():
        _flavor(str(name), settings if isinstance(settings, dict) else {}, look)
    named = {text for settings in flavors.values() for text in _texts(settings)}
    for text in sorted(named):
        if escapes(text) and (text.startswith(("/", "\\")) or ".." in text):
            look.hit("GM007", file, f"names {text!r}")
    return named


def _flavor(name: str, settings: dict[Any, Any], look: Look) -> None:
    """Whether loading by this flavor runs code."""
    loader, stored = str(settings.get("loader_module", "mlflow.")), settings.get("serialization_format")
    if name not in _FLAVORS:
        look.error("MLmodel", f"flavor {name}: how it loads is not known here")
    if stored in ("pickle", "cloudpickle") or name == "pytorch" or "python_model" in settings:
        look.hit("GM014", "MLmodel", f"flavor {name}, {stored or settings.get('python_model') or 'torch.load'}")
    if str(settings.get("keras_module", "keras")) not in ("keras", "tensorflow.keras", "tf_keras"):
        look.hit("GM015", "MLmodel", f"flavor {name}, keras_module {settings['keras_module']}")
    if not loader.startswith("mlflow."):
        look.hit("GM015", "MLmodel", f"flavor {name}, loader_module {loader}")
    for key in ("code", "model_code_path"):
        if settings.get(key):
            look.hit("GM015", "MLmodel", f"flavor {name}, {key} {settings[key]}")


def _texts(settings: Any) -> Iterator[str]:
    """Every text of a flavor but its environment's; each object once, since YAML may share them without end."""
    left, seen = [settings], set[int]()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            left.extend(value for key, value in node.items() if key != "env")
        elif isinstance(node, list):
            left.extend(node)
