"""The threat model as data: threats to a classifier, their mitigations, and the checks of these.

STRIDE (Shostack 2014) sorts the threats; each names the checks that are the evidence for its claimed status. How a
check runs is in evidence.py. (What an evasion attack may change in an image is the `ThreatModel` of threat.py.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date as Day
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gauntlet import yamlfile
from gauntlet.assurance.scan.findings import Severity
from gauntlet.errors import SettingError, one_line

Stride = Literal[
    "spoofing",
    "tampering",
    "repudiation",
    "information disclosure",
    "denial of service",
    "elevation of privilege",
]
Life = Literal["data", "training", "registry", "evaluation", "inference", "CI"]
Claimed = Literal["enforced", "partial", "accepted", "open"]
Status = Literal["enforced", "partial", "accepted", "open", "failed"]
STRIDE: tuple[Stride, ...] = get_args(Stride)
STATUSES: tuple[Status, ...] = get_args(Status)
OURS = ("gauntlet", "tasks", "flows", "mlflow_server")
"""The packages whose settings are read and whose commands are run: a threat model runs no code but this project's."""
_WORD = r"^[\w.:/@ -]+$"
_PART = r"\.?[\w-][\w.-]*"
_INSIDE = rf"^(\.|{_PART}(/{_PART})*)$"
"""A path that stays below the project: no part of it is `..`."""
_Plain = bool | int | float | str | None


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _OfRun(_Data):
    """Of the newest finished run of a stage, of one data set or of any."""

    stage: str = Field(pattern=_WORD)
    model: str | None = Field(None, pattern=_WORD)
    scenario: str | None = Field(None, pattern=_WORD)
    dataset: str | None = Field(None, pattern=_WORD)

    @property
    def wanted(self) -> dict[str, str]:
        """The tags (without `gauntlet.`) that the run must have."""
        tags = {"stage": self.stage, "model": self.model, "scenario": self.scenario, "dataset": self.dataset}
        return {name: value for name, value in tags.items() if value}


class _Bounded(_Data):
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bounds(self) -> str:
        """As it is read: `≥ 0.1, ≤ 0.9`."""
        signs = (("≥", self.at_least), ("≤", self.at_most))
        return ", ".join(f"{sign} {value:.12g}" for sign, value in signs if value is not None)

    def holds(self, low: float, high: float) -> bool:
        """Whether an interval lies within the bounds."""
        return (self.at_least is None or low >= self.at_least) and (self.at_most is None or high <= self.at_most)


class MetricCheck(_OfRun, _Bounded):
    """A metric is within bounds; where an interval was logged, its pessimistic end is."""

    kind: Literal["metric"]
    metric: str = Field(pattern=_WORD)

    @model_validator(mode="after")
    def _has_a_bound(self) -> MetricCheck:
        if not self.bounds:
            raise ValueError("a metric needs a bound: at_least, at_most or both")
        return self

    def __str__(self) -> str:
        """What is checked, in a few words."""
        return f"{self.metric} {self.bounds} ({', '.join(self.wanted.values())})"


class TagCheck(_OfRun):
    """A tag has this value, or is there at all."""

    kind: Literal["tag"]
    tag: str = Field(pattern=_WORD)
    equals: str | None = None
    nothing: str | None = Field(None, min_length=1, description="A value that begins so says: nothing was looked at")

    def __str__(self) -> str:
        """What is checked, in a few words."""
        return f"{self.tag}{'' if self.equals is None else f' = {self.equals}'} ({', '.join(self.wanted.values())})"


class TestCheck(_Data):
    """A test, a file or a folder of tests exists and passes; what is skipped is no evidence."""

    __test__ = False  # pytest collects classes of this name
    kind: Literal["test"]
    test: str = Field(pattern=rf"^tests(/{_PART})+(::\w+)*$", description="pytest's node id without [parameters]")

    def __str__(self) -> str:
        """What is checked, in a few words: a test's name is a sentence."""
        _, inside, name = self.test.rpartition("::")
        return name.removeprefix("test_").replace("_", " ") if inside else f"all of {self.test}"


class ScanCheck(_Data):
    """Bandit has no finding of this severity or above, of all rules or of those named."""

    kind: Literal["scan"]
    path: str = Field(".", pattern=_INSIDE)
    severity: Severity = "low"
    rules: tuple[Annotated[str, Field(pattern=r"^B\d{3}$")], ...] = ()

    def __str__(self) -> str:
        """What is checked, in a few words."""
        which = f" of {', '.join(self.rules)}" if self.rules else ""
        where = "this project" if self.path == "." else self.path
        return f"Bandit on {where}: no finding{which}{'' if self.severity == 'low' else f', {self.severity} or above'}"


class SettingCheck(_Bounded):
    """A value read back: an attribute of our code by its dotted name, or a key of a YAML, TOML or Python file."""

    kind: Literal["setting"]
    attribute: str | None = Field(None, pattern=rf"^({'|'.join(OURS)})(\.\w+)+$")
    file: str | None = Field(None, pattern=_INSIDE)
    key: str | None = Field(None, pattern=r"^[\w-]+(\.[\w-]+)*$", description="dotted; numbers count in lists")
    equals: _Plain | tuple[_Plain, ...] = None

    @model_validator(mode="after")
    def _says_where_and_what(self) -> SettingCheck:
        if bool(self.attribute) == bool(self.file) or bool(self.file) != bool(self.key):
            raise ValueError("a setting is an attribute, or a file and a key")
        if bool(self.bounds) == ("equals" in self.model_fields_set):
            raise ValueError("a setting needs equals, or at_least or at_most")
        return self

    @property
    def name(self) -> str:
        """What is read."""
        return self.attribute or f"{self.file}: {self.key}"

    def __str__(self) -> str:
        """What is checked, in a few words."""
        return f"{self.name} {self.bounds or f'= {self.equals!r}'}"


class CommandCheck(_Data):
    """A command of ours ends with this exit status."""

    kind: Literal["command"]
    command: tuple[str, ...] = Field(min_length=3, description="python, -m, a module of ours, its words")
    exit_status: int = Field(0, ge=0, le=255)
    nothing: int | None = Field(None, ge=1, le=255, description="The exit status that says: nothing there to look at")
    timeout: float = Field(60, gt=0, le=600, description="Seconds")

    @model_validator(mode="after")
    def _is_ours(self) -> CommandCheck:
        if self.command[:2] != ("python", "-m") or not re.fullmatch(rf"({'|'.join(OURS)})(\.\w+)*", self.module):
            raise ValueError(
                f"a command is python -m and a module of {', '.join(OURS)}, got {' '.join(self.command)!r}"
            )
        return self

    @property
    def module(self) -> str:
        """The module that is run."""
        return self.command[2]

    def __str__(self) -> str:
        """What is checked, in a few words."""
        return f"{' '.join(self.command)}: exit status {self.exit_status}"


Check = MetricCheck | TagCheck | TestCheck | ScanCheck | SettingCheck | CommandCheck


class Acceptance(_Data):
    """Why a risk is accepted, since when, and when this must be reviewed."""

    reason: str = Field(min_length=10)
    date: Day
    review_by: Day

    @model_validator(mode="after")
    def _is_reviewed_later(self) -> Acceptance:
        if self.review_by <= self.date:
            raise ValueError(f"review_by {self.review_by} is not after the date {self.date}")
        return self


class Threat(_Data):
    """What an adversary may do, and what is claimed to stop it."""

    id: str = Field(pattern=r"^T-\d{2,3}$")
    title: str = Field(min_length=1)
    stride: Stride
    life: Life
    adversary: tuple[str, ...] = Field(min_length=1)
    entry: tuple[str, ...] = Field(min_length=1)
    assets: tuple[str, ...] = Field(min_length=1)
    atlas: tuple[Annotated[str, Field(pattern=r"^AML\.T\d{4}(\.\d{3})?$")], ...] = Field(
        (), description="Techniques of MITRE ATLAS; none where none fits"
    )
    nist: tuple[Annotated[str, Field(pattern=r"^NISTAML\.\d{2,3}$")], ...] = Field(
        (), description="Classes of attacks of NIST AI 100-2 (E2025); none where none fits"
    )
    what: str = Field(min_length=1, description="What happens")
    mitigation: str = Field(min_length=1)
    status: Claimed
    accepted: Acceptance | None = None
    checks: tuple[Annotated[Check, Field(discriminator="kind")], ...] = ()

    @model_validator(mode="after")
    def _claims_what_it_may(self) -> Threat:
        if (self.status == "accepted") != (self.accepted is not None):
            raise ValueError("status accepted and the field accepted (reason, date, review_by) need each other")
        if self.status in ("enforced", "partial") and not self.checks:
            raise ValueError(f"{self.status} needs a check; without one a threat is open or accepted")
        if self.status == "open" and self.checks:
            raise ValueError("open means that nothing is checked: claim partial or enforced, or leave the checks out")
        return self

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What others call it."""
        return *self.atlas, *self.nist

    def found(self, outcomes: Sequence[str], today: Day) -> Status:
        """The status that the outcomes of the checks (passed, failed, missing) allow on a day."""
        if self.accepted:
            return "accepted" if today <= self.accepted.review_by else "open"
        if not outcomes:
            return "open"
        if "failed" in outcomes:
            return "failed"
        return "enforced" if self.status == "enforced" and "missing" not in outcomes else "partial"


class StrideModel(_Data):
    """The whole file."""

    title: str
    assets: dict[str, str] = Field(min_length=1)
    entry_points: dict[str, str] = Field(min_length=1)
    adversaries: dict[str, str] = Field(min_length=1)
    threats: tuple[Threat, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> StrideModel:
        twice = [name for name, count in Counter(threat.id for threat in self.threats).items() if count > 1]
        if twice:
            raise ValueError(f"two threats are called {twice[0]}")
        for threat in self.threats:
            _known(threat.assets, self.assets, f"{threat.id}.assets")
            _known(threat.entry, self.entry_points, f"{threat.id}.entry")
            _known(threat.adversary, self.adversaries, f"{threat.id}.adversary")
        return self

    def checks(self) -> Iterator[Check]:
        """Every check once, in order; several threats may rest on the same one."""
        yield from dict.fromkeys(check for threat in self.threats for check in threat.checks)


def _known(names: Iterable[str], known: Mapping[str, str], where: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: unknown {name!r}, one of {', '.join(known)}")


def load(path: Path) -> StrideModel:
    """The threat model of a YAML file; `SettingError` in one line when it is not one."""
    content = yamlfile.read(path, "give --threat-model FILE.yaml")
    try:
        return StrideModel.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        given = first["input"] if isinstance(first["input"], str | int | float) else None
        got = "" if given is None else f", got {one_line(repr(given), 100)}"
        said = first["msg"].removeprefix("Value error, ") + got
        where = ".".join(_place(content, first["loc"]))
        raise SettingError(said, where=f"{path.name}{where and ': '}{where}", fix="see docs/threat-model.md") from None


def _place(content: Any, loc: Sequence[int | str]) -> list[str]:
    """Where in the file: a threat by its id, where it has one."""
    if len(loc) > 1 and loc[0] == "threats":
        threat = content["threats"][loc[1]]
        name = threat.get("id") if isinstance(threat, dict) else None
        return [str(name or f"threats.{loc[1]}"), *map(str, loc[2:])]
    return [str(part) for part in loc]
