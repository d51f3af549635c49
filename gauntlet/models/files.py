"""Model files that people bring: checked before they are loaded."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gauntlet.assurance.scan.models import scan
from gauntlet.errors import InputError, ModelError, one_line
from gauntlet.limits import MAX_TEXT
from gauntlet.models import kerasfiles, trial
from gauntlet.models.build import build
from gauntlet.models.container import Copy, copied, format_of, save_it, suffix_of
from gauntlet.models.pytorch import library

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
"""How a function of images is named: `module:function`."""
_NAME = r"(?!\.+[/@]|\.+$)[^/:@%?#]+"
_MODELS = re.compile(rf"models:/{_NAME}(/(?!\d{{19}})[\w-]+|@[\w-]+)?", re.ASCII)
_RUNS = re.compile(r"runs:/[A-Za-z0-9][\w-]*(/(?!\.+(/|$))[\w .-]+)+", re.ASCII)


def check_name(name: str, *, trust: bool = False, weights: str | None = None) -> None:
    """Raise `ModelError` for a model that cannot be meant, by its name and, if it is a file, by what is in it."""
    if weights is not None:
        if not FUNCTION.fullmatch(name):
            raise ModelError("weights are for a network that module:factory builds", where="weights", fix=FACTORY)
        check_weights(Path(weights))
    where, forms = one_line(name, 200), "give FILE.keras, models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID/model"
    if not name.strip() or len(name) > MAX_TEXT or not name.isprintable():
        what = "is empty" if not name.strip() else f"has {len(name):,} characters, or such as cannot be printed"
        raise ModelError(f"the model's name {what}", where=where, fix=forms)
    if ".py:" in name:
        path, _, function = name.partition(".py:")
        fix = f"in its folder, give {Path(path).name}:{function}"
        raise ModelError("a module is named as Python imports it", where=where, fix=fix)
    if FUNCTION.fullmatch(name):
        if not trust:
            raise ModelError("importing it runs its code", where=where, fix="pass trust if you trust that code")
    elif is_uri(name):
        if not (_MODELS.fullmatch(name) or _RUNS.fullmatch(name)):
            raise ModelError("no such form of a model's URI", where=where, fix=forms)
    elif re.match(r"[A-Za-z][\w+.-]*:", name):
        raise ModelError("models are not fetched from there", where=where, fix=forms)
    else:
        check_file(Path(name), trust=trust)


def is_uri(name: str) -> bool:
    """Whether a model is named by an MLflow URI."""
    return name.startswith(("models:", "runs:"))


def load_file(path: Path, *, trust: bool = False) -> Any:
    """The model of a file: a `keras.Model`, a `pytorch.Network`, or a function of images; see `build`.

    Only with `trust` is code run that it may carry. Without, it is first built and asked in a process of its own
    (`trial`), unless these bytes passed before. Raises `ModelError`: no readable model, larger than `limits` allow,
    not on the allow-lists, or the trial failed.
    """
    with _refusing(path), copied(_there(path)) as copy:
        _check(copy, trust=trust)
        if not trust:
            trial.passed(copy.path, copy.sha256)
        return build(copy, trust=trust)


def check_file(path: Path, *, trust: bool = False) -> None:
    """Raise `ModelError` unless a file is a model of which all is on the allow-lists; nothing of it is built here.

    The trial of a file that is not trusted is started, so that it runs beside what comes next.
    """
    with _refusing(path), copied(_there(path)) as copy:
        _check(copy, trust=trust)
        if not trust:
            trial.ahead(path.absolute(), copy.sha256)


def load_weights(path: Path, module: Any) -> Any:
    """A `torch.nn.Module` with the weights of a file, as a `pytorch.Network`."""
    with _refusing(path), copied(_there(path)) as copy:
        _check(copy, weights=True)
        from gauntlet.models.pytorch.files import filled, read_weights

        return filled(module, read_weights(copy), path)


def check_weights(path: Path) -> None:
    """Raise `ModelError` unless a file holds weights and nothing that would be run."""
    if not path.is_file():
        fix = "give what torch.save(module.state_dict()) wrote, or a .safetensors file"
        raise ModelError("no such file of weights", where=one_line(path, 300), fix=fix)
    with _refusing(path), copied(_there(path)) as copy:
        _check(copy, weights=True)


def _check(copy: Copy, *, trust: bool = False, weights: bool = False) -> None:
    if weights != (copy.kind in WEIGHTS):
        what = "a model, not weights" if weights else "weights alone, or a pickled module, and no network"
        raise ModelError(f"it holds {what}", fix=FACTORY)
    if copy.kind in ("keras", "h5"):
        kerasfiles.check(copy, trust=trust)
        return
    outcome = scan(copy.path)
    if (reasons := [*(finding.message for finding in outcome.findings), *outcome.errors]) and not trust:
        fix = "save the state dict alone" if weights else "pass --trust if you trust where it comes from"
        raise ModelError(f"{one_line(reasons[0], 300)}: refused", fix=fix)
    _check_library(copy)


WEIGHTS = ("pickled", "safetensors")
FACTORY = "weights are given as --weights FILE, beside --model module:factory, a function that builds the network"
NEEDS = {"exported": "torch", "torchscript": "torch", "pickled": "torch", "safetensors": "torch", "onnx": "onnx"}
"""The package that a format needs beyond those of requirements.txt."""
INSTALL = {"torch": library.INSTALL, "onnx": "pip install -r requirements-onnx.txt"}


def _check_library(copy: Copy) -> None:
    extra = NEEDS.get(copy.kind, "")
    if extra and importlib.util.find_spec(extra) is None:
        raise ModelError(f"{extra} is not installed", fix=INSTALL[extra])


def _there(path: Path) -> Path:
    """The path of a file that exists; else what people of that format do next."""
    suffix = path.suffix.lower()
    try:
        there, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # too long, or with a NUL
        there = folder = False
    if (there and suffix not in OTHERS) or (folder and (path / "saved_model.pb").is_file()):
        return path
    what = OTHERS.get(suffix, "no such model file: a folder needs saved_model.pb" if folder else "no such model file")
    named, _, fix = what.partition(": ")
    forms = "give a .keras file (or .h5, .pt2, .pt, .onnx, .tflite, a SavedModel) or a models:/ or runs:/ URI"
    raise ModelError(named, where=one_line(path, 300), fix=fix or forms)


_FUNCTION = "give module:function, a function of images that runs it"
_LOG = "log it with mlflow.{0}.log_model and give models:/NAME/VERSION --trust, or " + _FUNCTION
_SAVE = "load it where it was made and model.save('FILE.keras'), or " + _FUNCTION
OTHERS = {
    ".py": f"a file of Python's is no model: in its folder, {_FUNCTION}",
    ".pb": f"a frozen graph is not read: {_SAVE}",
    **dict.fromkeys((".pkl", ".joblib"), f"a pickle is not read as a file: {_LOG.format('sklearn')}"),
}
"""Files of other formats, by suffix: what they are, and what to do."""


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever a parser raises becomes one `ModelError` that names the file."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.what, where=one_line(path), fix=error.fix) from error
    except (Exception, SystemExit) as error:  # Keras raises a dozen kinds, from KeyError to zipfile's own
        message = error.what if isinstance(error, InputError) else str(error).strip()
        reason = message.splitlines()[0] if message else type(error).__name__
        suffix = suffix_of(path)
        what = f"not a readable {format_of(suffix)}: {one_line(reason, 300)}"
        raise ModelError(what, where=one_line(path), fix=save_it(suffix)) from error
