"""Settings that several flows share, and the small steps between a config and the tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from flows.command import Settings
from gauntlet.attacks import Attacks
from gauntlet.backdoor.scan import FEWEST_CLASSES, FEWEST_IMAGES, ModelScan
from gauntlet.certify import AnyCertifier
from gauntlet.errors import SettingError, one_line
from gauntlet.evaluation.battery import Battery
from gauntlet.limits import GIB, MAX_GIB, MAX_SECONDS, SECONDS
from gauntlet.models.adapter import InputRange, Layout, Outputs
from gauntlet.models.architectures import ARCHITECTURES
from gauntlet.models.files import FUNCTION, check_name
from gauntlet.poisoning import AnyPoisoning, CornerTrigger, Poisoning
from gauntlet.threat import Budget
from gauntlet.training.augment import Augmentation
from gauntlet.training.fit import Training

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from tasks.context import Context


ROLE = r"^[a-z0-9][a-z0-9-]{0,63}$"
"""How a role may be called: it becomes part of a registered model's name."""


class TrainingSettings(Settings):
    """How models are trained: the flat spelling of `gauntlet.training.fit.Training`."""

    architecture: Literal[tuple(ARCHITECTURES)] = Field(  # type: ignore[valid-type]
        "cnn3x3", description=f"one of {', '.join(ARCHITECTURES)}"
    )
    epochs: int | None = Field(None, ge=1, le=10_000, description="passes over the training set; 3 for 60,000 images")
    batch_size: int = Field(128, ge=1, le=2**16, description="images a step")
    optimizer: Literal["adam", "sgd"] | None = Field(None, description="the architecture's own when not given")
    learning_rate: float | None = Field(None, gt=0, description="the architecture's own when not given")
    momentum: float | None = Field(None, ge=0, lt=1, description="of sgd; the architecture's own when not given")
    validation_share: float | None = Field(
        None, ge=0, lt=1, description="share held out; above 0 the best validation weights are kept"
    )

    schedule: Literal["constant", "cosine"] | None = Field(
        None, description="learning rate: constant, or down to 0 by a cosine; else the architecture's own"
    )
    augment: Augmentation | None = Field(
        None, description="move training images, or mirror and move them (no digits!); else the architecture's own"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="while training; bfloat16 where the processor computes in it"
    )

    def training(self) -> Training:
        """The settings of a training."""
        return Training(**{name: getattr(self, name) for name in Training.model_fields})


class BatterySettings(Settings):
    """How a model is attacked: the flat spelling of `gauntlet.evaluation.battery.Battery`."""

    attack: Attacks = Field(
        (),
        description="NAME or NAME:key=value,key=value or autoattack; repeatable; default: noise-gaussian, fgsm and pgd",
    )
    eps: tuple[Budget, ...] = Field(
        (), description="budget in [0, 1], also as 8/255; repeatable; default: the literature's"
    )
    n: int | None = Field(
        None, ge=1, description="test images; default: all for one-step attacks, 1,000 for iterative ones"
    )
    cascade: bool | None = Field(
        None, description="each attack only on what cheaper ones left correct; default: only with autoattack"
    )

    certify: tuple[AnyCertifier, ...] = Field(
        (),
        description="NAME or NAME:key=value: prove images safe: interval, crown, exact, smoothing; repeatable",
    )
    planted: bool = Field(False, description="plant adversarial images that the attacks must find")
    max_seconds: float = Field(SECONDS, gt=0, le=MAX_SECONDS, description="of one attack, then it is stopped")
    max_memory: float = Field(GIB, gt=0, le=MAX_GIB, description="GiB of the process, then an attack is stopped")

    def check(self) -> None:
        """Refuse as well budgets and numbers of images that cannot be meant on this data."""
        super().check()
        dataset = self.data()
        battery = self.battery()
        battery.check(dataset.input_shape, len(dataset.x_test))
        for line in battery.left_out:
            print(f"note: {line}", file=sys.stderr)

    def battery(self) -> Battery:
        """The battery on this data; without an attack's name, the usual ones for what the model shows."""
        asked = {name: getattr(self, name) for name in Battery.model_fields if name in type(self).model_fields}
        return Battery(**asked).fitted(self.data().n_classes)


class WorkerSettings(Settings):
    """The workers that make a battery's shards, if not the command's own process."""

    workers: int | None = Field(None, ge=1, le=1_024, description="processes of this machine that attacks go to")
    cluster: str | None = Field(None, description="tcp://HOST:PORT of a Dask scheduler whose workers attacks go to")

    def check(self) -> None:
        """Refuse as well workers that cannot be had."""
        if self.workers or self.cluster:
            from gauntlet.evaluation.cluster import check

            check(self.workers, self.cluster)
        super().check()


class PoisoningSettings(Settings):
    """How the training set is poisoned."""

    poisoning: AnyPoisoning = Field(CornerTrigger(), description="NAME or NAME:key=value,key=value")

    def check(self) -> None:
        """Refuse as well a poisoning that this data cannot carry."""
        super().check()
        check_poisoning(self.poisoning, self.data())


def check_poisoning(poisoning: Poisoning, dataset: Dataset) -> None:
    """`SettingError` when the trigger does not fit, its target does not exist, or too few images can be poisoned."""
    poisoning.check(dataset.input_shape, dataset.n_classes)
    poisoning.poisonable(dataset.y_train, dataset.n_classes)


def check_triggers(known: Sequence[Poisoning], dataset: Dataset) -> None:
    """`SettingError` when a trigger does not fit, its target does not exist, or nothing is wanted by it."""
    for one in known:
        one.check(dataset.input_shape, dataset.n_classes)
        one.check_goal(dataset.y_test, dataset.n_classes)


class BackdoorSettings(Settings):
    """Whether models are scanned for unknown backdoors."""

    backdoor_scan: Literal["none", "probes", "inversion"] = Field(
        "probes",
        description="unknown backdoors: none; probes try patches, seconds a model; inversion searches by gradients, "
        "minutes a model",
    )

    def model_scan(self) -> ModelScan | None:
        """How models are scanned, against their own other classes: no reference is trained. None: not at all."""
        dataset = self.data()
        few = len(dataset.x_test) < FEWEST_IMAGES or dataset.n_classes < FEWEST_CLASSES
        if self.backdoor_scan == "none" or few:
            return None
        forms = ModelScan().forms if self.backdoor_scan == "inversion" else ()
        return ModelScan(references=0, forms=forms)


class CodeSettings(Settings):
    """Code that is scanned beside everything else."""

    scan_path: str | None = Field(None, description="code to scan; this project when not given")

    def check(self) -> None:
        """Refuse as well code that is not there."""
        if self.scan_path is not None and not os.path.exists(self.scan_path):
            where = f"--scan-path {one_line(self.scan_path, 300)}"
            raise SettingError("no such file or folder", where=where, fix="check the path")
        super().check()


class GivenModel(Settings):
    """A flow that can be given a model: which is inspected before anything is started."""

    trust: bool = Field(False, description="run code that comes with a model: pickles, Lambda layers, module:function")

    def check(self) -> None:
        """Refuse as well a model that is named in no known way, is no Keras file, or carries code."""
        super().check()
        weights = getattr(self, "weights", None)
        for name in self._models():
            check_name(name, trust=self.trust, weights=weights if name == getattr(self, "model", None) else None)

    @model_validator(mode="before")
    @classmethod
    def _model_decides(cls, given: Any) -> Any:
        """Images of one's own become as large as the model's file takes them, unless their size is stated."""
        from gauntlet.data.own import is_own
        from gauntlet.models.inputs import size_of

        model, stated = given.get("model"), given.get("image_size")
        if stated is not None or not isinstance(model, str) or not is_own(str(given.get("dataset", ""))):
            return given
        size = size_of(Path(model)) if os.path.isfile(model) else None
        return given | {"image_size": f"{size[0]}x{size[1]}"} if size else given

    def typed(self) -> Self:
        """To type `module:function` is to trust it; a deployment's parameters come over a network and must say so."""
        functions = [FUNCTION.fullmatch(name) is not None for name in self._models()]
        return self.model_copy(update={"trust": True}) if functions and all(functions) else self

    def _models(self) -> list[str]:
        named = [getattr(self, key, None) for key in ("model", "source")]
        return [name for name in named if name is not None]


class ModelSettings(GivenModel):
    """A model that people bring."""

    weights: str | None = Field(None, description="weights for the network that --model module:factory builds")
    input_range: InputRange = Field("auto", description="pixels it expects: 0..1, 0..255, -1..1; default: detected")
    outputs: Outputs = Field("auto", description="its outputs: logits, probabilities, labels; default: detected")
    layout: Layout = Field("auto", description="its image layout: hwc, chw (channels first), flat; default: detected")
    normalize: str | None = Field(None, description="imagenet, or means/deviations of the channels: m1,m2,m3/s1,s2,s3")
    bgr: bool = Field(False, description="the model takes blue first")
    output: str | None = Field(None, description="name of the output that holds the scores, where there are several")
    input: str | None = Field(
        None, description="name of the images' input, where there are several; OTHER=NUMBER fills another, else with 0"
    )
    accept_chance: bool = Field(False, description="evaluate a model whose answers do not depend on the labels")


def context(config: Settings) -> Context:
    """What the tasks are told of a config; the store is reached first, since models come from it."""
    from tasks.context import Context
    from tasks.store import connection

    connection.connect(config.tracking_uri)
    fields = [*Settings.model_fields, *(WorkerSettings.model_fields if isinstance(config, WorkerSettings) else ())]
    return Context(**{name: getattr(config, name) for name in fields})


def result(run_id: str, config: Settings) -> dict[str, Any]:
    """What a single-stage flow returns, and `--json` prints: the run, its settings and its metrics."""
    from tasks.store import tracking

    settings = config.model_dump(mode="json", exclude={"tracking_uri"})
    recorded = {key: value for key, value in tracking.records(run_id).items() if key != "measurements"}
    if "model" in settings and "model" in recorded:
        recorded["role"] = recorded.pop("model")  # the model that was given stays
    uri = tracking.read(run_id).data.tags.get("gauntlet.model_uri")
    return settings | recorded | {"run_id": run_id} | ({"model_uri": uri} if uri else {})
