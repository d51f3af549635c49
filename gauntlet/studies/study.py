"""A published report as data: its stages with their settings, its figures, its conclusions.

Each lies in a file of its own in `studies/`; adding a report is adding a file. Stages name each other by id and stand
in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gauntlet.attacks import Attacks
from gauntlet.backdoor.scan import ModelScan
from gauntlet.defenses.detection import AnyDetector
from gauntlet.defenses.training import AnyDefense
from gauntlet.errors import SettingError
from gauntlet.evaluation.battery import Battery
from gauntlet.measurement import Measurement
from gauntlet.poisoning import AnyPoisoning
from gauntlet.studies.comparison import Comparison, Interval, Unit, compare
from gauntlet.studies.conclusions import RULES, Measured, roles
from gauntlet.threat import Budget
from gauntlet.training.fit import Training

FOLDER = Path(__file__).parent
SCALE: dict[str, float] = {"percent": 100.0}
"""How a published figure of a unit is divided; all others stand as they are."""
OF_THE_MACHINE = {"ms": "inference time", "seconds": "time"}
QUICK_EPOCHS, QUICK_PASSES, QUICK_BATCH, QUICK_IMAGES = 3, 20, 32, 100
"""What `quick` caps; passes are of the networks beside the classifier, whose steps cost little."""
PUBLISHED_IMAGES = 60_000
"""The training images that a published count of poisoned ones is a share of."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Stage(_Data):
    """What all stages have; `references` are the fields that hold another stage's id."""

    references: ClassVar[tuple[str, ...]] = ()
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name within the study")

    def refers(self) -> dict[str, str]:
        """The ids of the stages this one builds on, by field."""
        return {name: getattr(self, name) for name in self.references if getattr(self, name)}


class TrainStage(_Stage):
    """Train on clean data."""

    kind: Literal["train"] = "train"
    training: Training | None = Field(None, description="What differs from the study's own")


class PoisonStage(TrainStage):
    """Train on poisoned data; `of` is the clean model to compare with."""

    references: ClassVar[tuple[str, ...]] = ("of",)
    kind: Literal["poison"] = "poison"  # type: ignore[assignment]
    of: str
    poisoning: AnyPoisoning


class DefendStage(TrainStage):
    """Train a defended model; `of` is the undefended one."""

    references: ClassVar[tuple[str, ...]] = ("of",)
    kind: Literal["defend"] = "defend"  # type: ignore[assignment]
    of: str
    defense: AnyDefense


class _BatteryStage(_Stage):
    """Attacks on `model`."""

    model: str
    attacks: Attacks = Field(min_length=1)
    eps: tuple[Budget, ...] = ()
    n: int | None = Field(None, ge=1)

    @property
    def battery(self) -> Battery:
        """How the model is attacked."""
        return Battery(attack=self.attacks, eps=self.eps, n=self.n)


class AttackStage(_BatteryStage):
    """Attack `model`, with images made against `source` where one is named."""

    references: ClassVar[tuple[str, ...]] = ("model", "source")
    kind: Literal["attack"] = "attack"
    source: str | None = None


class DetectStage(_BatteryStage):
    """Detect attacks on `model`."""

    references: ClassVar[tuple[str, ...]] = ("model",)
    kind: Literal["detect"] = "detect"
    detector: AnyDetector


class BackdoorStage(_Stage):
    """Search `model` for backdoors whose trigger is not known."""

    references: ClassVar[tuple[str, ...]] = ("model",)
    kind: Literal["backdoor"] = "backdoor"
    model: str
    search: ModelScan = ModelScan()


class ScanStage(_Stage):
    """Scan code: this project's, or that at `path` below it."""

    kind: Literal["scan"] = "scan"
    path: str | None = None


Stage = Annotated[
    TrainStage | PoisonStage | DefendStage | AttackStage | DetectStage | BackdoorStage | ScanStage,
    Field(discriminator="kind"),
]


class Value(_Data):
    """A measured figure with its interval; `n` images where it is a share of some."""

    value: float
    low: float
    high: float
    n: int | None = None


class Figure(_Data):
    """A published figure, and where the measured one is found: a metric of a stage, or one of its measurements."""

    name: str
    published: float
    unit: Unit = "percent"
    stage: str
    metric: str | None = Field(None, description="Of the stage, such as clean/loss; else the fields below select")
    condition: str | None = Field(None, description="clean, trigger, or an attack's name")
    eps: Budget | None = None
    measure: Literal["accuracy", "attack_success_rate"] = "accuracy"
    not_comparable: str | None = Field(None, description="Why not, where it is not")

    @model_validator(mode="after")
    def _one_place(self) -> Figure:
        if (self.metric is None) == (self.condition is None) and not self.reason:
            raise ValueError("give metric or condition, not both or neither")
        return self

    @property
    def reason(self) -> str | None:
        """Why it cannot be compared, if so: what a clock showed is of the machine."""
        what = OF_THE_MACHINE.get(self.unit)
        return self.not_comparable or (f"{what} of another machine" if what else None)

    @property
    def share(self) -> float:
        """The published figure as the metrics count it: percent become a fraction."""
        return round(self.published / SCALE.get(self.unit, 1.0), 10)

    def compared(self, value: Value, images: int) -> Comparison:
        """With what was measured; `images` are those of the published figure where it is a share."""
        measured = Interval(value.value, value.low, value.high)
        return compare(self.share, images, measured, self.unit, value.n)

    def find(self, measured: Measured) -> Value | None:
        """The measured figure, or None when the stage has none; the stage's own model is measured before others."""
        if self.metric:
            return _metric(measured.metrics, self.metric)
        one = next((m for m in measured.measurements if self._is_of(m)), None)
        return Value(value=one.value, low=one.low, high=one.high, n=one.n) if one else None

    def _is_of(self, m: Measurement) -> bool:
        same_eps = self.eps is None or (m.eps is not None and abs(m.eps - self.eps) < 1e-6)
        return m.condition == self.condition and m.metric == self.measure and same_eps


def _metric(metrics: Any, name: str) -> Value | None:
    if name not in metrics:
        return None
    value = metrics[name]
    return Value(value=value, low=metrics.get(f"{name}_low", value), high=metrics.get(f"{name}_high", value))


class Conclusion(_Data):
    """What a report claims, the rule that judges it, and the stage for each of the rule's parameters."""

    claim: str
    rule: str
    stages: dict[str, str]

    @model_validator(mode="after")
    def _known_rule(self) -> Conclusion:
        if self.rule not in RULES:
            raise ValueError(f"unknown rule {self.rule!r}: one of {', '.join(RULES)}")
        if set(self.stages) != set(roles(self.rule)):
            raise ValueError(f"the rule {self.rule} needs the stages {', '.join(roles(self.rule))}")
        return self


class Picture(_Data):
    """A picture that the study shows: an artifact of a stage, or of the attacks below it."""

    caption: str
    stage: str
    artifact: str


class Study(_Data):
    """A published report."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")
    title: str
    source: str
    dataset: str = Field("mnist", description="Data set of the published figures; of another none is comparable")
    images: int = Field(10_000, ge=1, description="Test images of the published shares: MNIST has 10,000")
    training: Training
    notes: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = Field(min_length=1)
    figures: tuple[Figure, ...] = ()
    conclusions: tuple[Conclusion, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @model_validator(mode="after")
    def _ids_are_known(self) -> Study:
        seen: set[str] = set()
        for stage in self.stages:
            _known(stage.refers().values(), seen, f"stage {stage.id}")
            if stage.id in seen:
                raise ValueError(f"two stages are called {stage.id!r}")
            seen.add(stage.id)
        for what, ids in self._mentions():
            _known(ids, seen, what)
        return self

    def _mentions(self) -> Iterator[tuple[str, Sequence[str]]]:
        """The stage ids outside of the stages, and what mentions them."""
        yield from ((f"figure {figure.name!r}", [figure.stage]) for figure in self.figures)
        yield from ((f"conclusion {one.claim!r}", list(one.stages.values())) for one in self.conclusions)
        yield from ((f"picture {picture.caption!r}", [picture.stage]) for picture in self.pictures)

    def training_of(self, stage: TrainStage, seed: int) -> Training:
        """The stage's settings over the study's; `seed` where neither names one."""
        own = stage.training.model_dump(exclude_unset=True) if stage.training else {}
        return Training(**({"seed": seed} | self.training.model_dump(exclude_unset=True) | own))

    def quick(self) -> Study:
        """The same study, small: few epochs and test images, poisoned images by rate, backdoors by probes alone."""
        epochs = min(self.training.epochs or QUICK_EPOCHS, QUICK_EPOCHS)
        training = self.training.model_copy(update={"epochs": epochs, "batch_size": QUICK_BATCH})
        note = f"Small for speed ({QUICK_EPOCHS} epochs, {QUICK_IMAGES} images an attack): no verdict on the report."
        changes: dict[str, Any] = {"training": training, "stages": tuple(map(_smaller, self.stages))}
        return self.model_copy(update=changes | {"notes": (note, *self.notes)})


def _known(ids: Any, seen: set[str], where: str) -> None:
    for unknown in (one for one in ids if one not in seen):
        raise ValueError(f"{where} names the unknown stage {unknown!r}; a stage must stand before those that use it")


def _smaller(stage: Stage) -> Stage:
    changes: dict[str, Any] = {"n": QUICK_IMAGES} if hasattr(stage, "n") else {}
    training = getattr(stage, "training", None)
    if training and training.epochs:
        changes["training"] = training.model_copy(update={"epochs": min(training.epochs, QUICK_EPOCHS)})
    for name in ("defense", "detector"):
        declared: Any = getattr(stage, name, None)
        if hasattr(declared, "epochs"):
            passes = min(declared.epochs or QUICK_PASSES, QUICK_PASSES)
            changes[name] = declared.model_copy(update={"epochs": passes})
    poisoning = getattr(stage, "poisoning", None)
    if poisoning and poisoning.count:
        rate = poisoning.count / PUBLISHED_IMAGES
        changes["poisoning"] = poisoning.model_copy(update={"count": None, "rate": rate})
    if isinstance(stage, BackdoorStage):
        changes["search"] = stage.search.model_copy(update={"forms": (), "references": 0})
    return stage.model_copy(update=changes)


def load(path: Path) -> Study:
    """The study of a YAML file; `SettingError` in one line when it is not one."""
    try:
        return Study.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise SettingError(f"not YAML: {' '.join(str(error).split())}", where=path.name) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([path.name, *map(str, first["loc"])])
        raise SettingError(first["msg"].removeprefix("Value error, "), where=where) from None
    except SettingError as error:
        raise SettingError(error.what, where=f"{path.name}: {error.where}", fix=error.fix) from error


def studies(folder: Path | None = None) -> dict[str, Study]:
    """Every study of a folder (those shipped when not given) by its name, in order of the files' names."""
    by_name: dict[str, Study] = {}
    for path in sorted((folder or FOLDER).glob("*.yaml")):
        study = load(path)
        if study.name in by_name:
            raise SettingError(f"a second study is called {study.name}", where=path.name)
        by_name[study.name] = study
    return by_name


def chosen(names: Sequence[str], folder: Path | None = None) -> list[Study]:
    """The studies of these names, all when none is given; `SettingError` for an unknown one."""
    known = studies(folder)
    for name in names:
        if name not in known:
            raise SettingError(f"unknown report {name!r}", where="--report", fix=f"one of {', '.join(known)}")
    return [study for name, study in known.items() if not names or name in names]
