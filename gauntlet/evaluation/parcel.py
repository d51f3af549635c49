"""What a worker needs to make shards: models as files, and which code and libraries they belong to; all is checked."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gauntlet.errors import ClusterError, SettingError
from gauntlet.evaluation.provenance import code_digest, versions
from gauntlet.evaluation.shards import Bench
from gauntlet.models.access import Target

if TYPE_CHECKING:
    from gauntlet.models.classifier import CompiledClassifier

KEPT = 4
"""Models that a worker keeps open."""


@dataclass(frozen=True)
class File:
    """A Keras model of logits as the bytes of a `.keras` file."""

    content: bytes = field(repr=False)
    sha256: str
    digest: str
    """Of graph and weights."""
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Parcel:
    """A `Bench` to be sent."""

    files: tuple[File, ...]
    """The model that is scored, then the one that images are made against, where that is another."""
    seed: int
    code: str
    versions: Mapping[str, str]

    def opened(self) -> Bench:
        """The models, checked; `ClusterError` when they are not those that were sent, or this code is another."""
        self._check_code()
        models = [_opened(file) for file in self.files]
        return Bench(models[0], self.seed, models[1] if len(models) > 1 else None)

    def _check_code(self) -> None:
        if code_digest() != self.code:
            raise ClusterError("a worker has other code of Gauntlet: install the same on all machines")
        mine = _mine()
        for name, version in self.versions.items():
            # kinds of machines may differ: their results agree up to rounding
            if name != "machine" and mine.get(name) != version:
                raise ClusterError(f"a worker has {name} {mine.get(name)}, here it is {version}: install the same")


@lru_cache
def _mine() -> Mapping[str, str]:
    """The versions of this process, which looks into files."""
    return versions()


def check(*models: Target) -> None:
    """`SettingError` for a model that cannot be sent."""
    from gauntlet.models.classifier import CompiledClassifier

    if not all(isinstance(model, CompiledClassifier) for model in models):
        what, fix = "only Keras and ONNX models can be sent to workers", "leave it out"
        raise SettingError(what, where="--workers", fix=fix)


def packed(bench: Bench) -> Parcel:
    """A bench as a parcel; `SettingError` where a model cannot be a file."""
    models = [model for model in (bench.target, bench.source) if model is not None]
    check(*models)
    return Parcel(tuple(map(_file, models)), bench.seed, code_digest(), versions())


def _file(model: Target) -> File:
    with tempfile.TemporaryDirectory(prefix="gauntlet-parcel-") as folder:
        path = Path(folder) / "model.keras"
        try:
            model.model.save(path)  # type: ignore[attr-defined]
        except (TypeError, ValueError, NotImplementedError) as error:
            what = f"the model cannot be saved as a file, to be sent: {str(error).splitlines()[0][:200]}"
            raise SettingError(what, where="--workers", fix="leave it out") from error
        content = path.read_bytes()
    digest = model.digest()  # type: ignore[attr-defined]
    low, high = map(float, model.clip_values)
    return File(content, hashlib.sha256(content).hexdigest(), digest, (low, high))


@lru_cache(KEPT)
def _opened(file: File) -> CompiledClassifier:
    """The model of a file that has both digests; its own code is run, as on the sending machine."""
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.models.files import load_file

    if hashlib.sha256(file.content).hexdigest() != file.sha256:
        raise ClusterError("a model arrived at a worker with other bytes than were sent")
    with tempfile.TemporaryDirectory(prefix="gauntlet-parcel-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(file.content)
        model = CompiledClassifier(load_file(path, trust=True), file.bounds)
    if model.digest() != file.digest:
        raise ClusterError("a model is another at a worker: its graph or its weights were read differently")
    return model
