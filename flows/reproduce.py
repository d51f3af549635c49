"""Published reports, measured again with their own settings and judged.

A stage that several studies have (a baseline, a defense) is computed once: its key is its kind and settings together
with the keys of the stages it builds on. Its run is a child of the first study that needed it; later studies read its
records and carry its id in the tag `gauntlet.shared.<stage>`. So does a later command on the same data, code and
versions of the libraries: one that was stopped resumes after the last finished stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from flows.command import Settings, flow, main
from flows.settings import context
from gauntlet.commandline import check_output, write_text
from gauntlet.data.stated import KNOWN

if TYPE_CHECKING:
    from gauntlet.studies.study import Study
    from gauntlet.training.fit import Training
    from tasks.context import Context
    from tasks.judge import Outcome
    from tasks.source import Source


class ReproduceConfig(Settings):
    """Settings of the flow `reproduce`."""

    dataset: str = Field("mnist", description=f"digits, mnist, fashion-mnist, cifar10, or {KNOWN}")
    report: tuple[str, ...] = Field((), description="name of a report, R0 to R4; repeatable; all when not given")
    quick: bool = Field(False, description="minutes instead of an hour: digits for mnist, few epochs, few images")
    write: str | None = Field(None, description="write the combined Markdown of all reports to this file as well")

    def resolved(self) -> ReproduceConfig:
        """The same with the data set it will use: the quick way does not read MNIST."""
        return self.model_copy(update={"dataset": "digits"} if self.quick and self.dataset == "mnist" else {})

    def check(self) -> None:
        """Refuse unknown reports, and files that cannot be read or written, before a server is started."""
        from gauntlet.studies.study import chosen

        chosen(self.report)
        if self.write:
            check_output(self.write, "--write")
        super(ReproduceConfig, self.resolved()).check()


@flow(ReproduceConfig)
def reproduce(config: ReproduceConfig) -> dict[str, Any]:
    """Measure published reports again with their own settings; judge every figure and every conclusion."""
    from gauntlet.studies.study import chosen
    from tasks.judge import combine
    from tasks.store import tracking

    studies = [study.quick() if config.quick else study for study in chosen(config.report)]
    config = config.resolved()
    where, memo = context(config), Memo()
    params = config.model_dump(mode="json", exclude={"tracking_uri"})
    with tracking.run("reproduce", where, where.load(), name="reproduce", params=params) as run:
        judged = [_judged(study, where.below(run.id), memo) for study in studies]
        text = combine(run.id, "Published reports, measured again", judged)
    if config.write:
        write_text(Path(config.write), text)
    return _summary(run.id, params, judged)


def _judged(study: Study, where: Context, memo: Memo) -> dict[str, Any]:
    """Run a study's stages below a run of its own, then judge it."""
    from tasks.judge import judge_study
    from tasks.store import tracking

    params = {"report": study.name, "title": study.title, "source": study.source, "seed": where.seed}
    name = f"{study.name}: {study.title}"
    with tracking.run("reproduce", where, where.load(), name=name, scenario=study.name, params=params) as run:
        run.json("study.json", study.model_dump(mode="json"))
        below, done = where.below(run.id), dict[str, "Outcome"]()
        for stage in study.stages:
            done[stage.id], shared = memo.outcome(Step(study, stage, below, done))
            run.tags({f"gauntlet.shared.{stage.id}": done[stage.id].run} if shared else {})
        judged = judge_study(below, run.id, study, done)
    problems = [f"{study.name} {name}: {one.problem}" for name, one in done.items() if one.problem]
    return judged | {"run_id": run.id, "problems": problems}


class Memo:
    """The stages that were computed, by what they are."""

    def __init__(self) -> None:
        """None yet."""
        self._outcomes: dict[str, Outcome] = {}

    def outcome(self, step: Step) -> tuple[Outcome, bool]:
        """The result of a stage, and whether it was computed before; one that failed here is not tried again."""
        key = step.key
        shared = key in self._outcomes
        if not shared:
            self._outcomes[key], shared = _attempt(step)
        return self._outcomes[key], shared and bool(self._outcomes[key].run)


@dataclass(frozen=True)
class Step:
    """A stage of a study, where it runs, and what became of those before it."""

    study: Study
    stage: Any
    below: Context
    done: dict[str, Outcome]

    @property
    def key(self) -> str:
        """Kind and settings of the stage, and the keys of those it builds on; names do not count."""
        settings = self.stage.model_dump(mode="json", exclude={"id", "training", *self.stage.references})
        if hasattr(self.stage, "training"):
            settings["training"] = self.training.model_dump(mode="json")
        refers = {field: self.done[name].key for field, name in self.stage.refers().items()}
        return json.dumps(settings | refers, sort_keys=True)

    @property
    def training(self) -> Training:
        """How its model is trained."""
        return self.study.training_of(self.stage, self.below.seed)

    def role(self, name: str) -> str:
        """What a stage's model is called and registered under, apart from the models of other flows."""
        return f"{self.study.name.lower()}-{name}"

    def source(self, name: str) -> Source:
        """The model of an earlier stage."""
        from tasks.source import Source
        from tasks.store import registry

        return Source(model=registry.model_uri(str(self.done[name].run)))


def _attempt(step: Step) -> tuple[Outcome, bool]:
    """A stage's result, and whether an earlier command computed it; what fails, fails alone."""
    from tasks.judge import Outcome

    failed = [name for name in step.stage.refers().values() if not step.done[name].run]
    if failed:
        return Outcome(key=step.key, problem=f"builds on {failed[0]}, which failed"), False
    try:
        run, again = _made(step)
    except Exception as error:
        return Outcome(key=step.key, problem=f"{type(error).__name__}: {error}"), False
    return Outcome(key=step.key, run=run), again


def _made(step: Step) -> tuple[str, bool]:
    """The run of a stage, and whether it was there; code is scanned each time, as its files may have changed."""
    from tasks.stage import reuse

    make = RUNNERS[step.stage.kind]
    if step.stage.kind == "scan":
        return make(step, step.stage), False
    return reuse(step.below, step.stage.kind, lambda where: make(replace(step, below=where), step.stage), step.key)


def _train(step: Step, stage: Any) -> str:
    from tasks.train import train

    return train(step.below, step.training, step.role(stage.id))


def _poison(step: Step, stage: Any) -> str:
    from tasks.poison import poison

    return poison(step.below, step.training, stage.poisoning, step.source(stage.of), step.role(stage.id))


def _defend(step: Step, stage: Any) -> str:
    from tasks.defend import defend

    baseline = step.source(stage.of), step.done[stage.of].run
    return defend(step.below, step.training, stage.defense, *baseline, step.role(stage.id))


def _attack(step: Step, stage: Any) -> str:
    from tasks.attack import attack

    source = step.source(stage.source) if stage.source else None
    return attack(step.below, step.source(stage.model), stage.battery, role=step.role(stage.model), source=source)


def _detect(step: Step, stage: Any) -> str:
    from tasks.detect import detect

    return detect(step.below, stage.detector, step.source(stage.model), stage.battery, role=step.role(stage.id))


def _backdoor(step: Step, stage: Any) -> str:
    from tasks.backdoor import backdoor

    return backdoor(step.below, step.source(stage.model), stage.search, step.role(stage.model))


def _scan(step: Step, stage: Any) -> str:
    from gauntlet.state import PROJECT_ROOT
    from tasks.scan import scan

    return scan(step.below, str(PROJECT_ROOT / stage.path) if stage.path else None)


RUNNERS: dict[str, Callable[[Step, Any], str]] = {
    "train": _train,
    "poison": _poison,
    "defend": _defend,
    "attack": _attack,
    "detect": _detect,
    "backdoor": _backdoor,
    "scan": _scan,
}


def _summary(run_id: str, params: dict[str, Any], judged: list[dict[str, Any]]) -> dict[str, Any]:
    """What `--json` prints: all figures and conclusions; exit status 1 when a stage failed, after all is told."""
    problems = [line for one in judged for line in one["problems"]]
    rows = {key: [row for one in judged for row in one[key]] for key in ("figures", "conclusions")}
    reports = {one["report"]: one["run_id"] for one in judged}
    return (
        params | rows | {"run_id": run_id, "reports": reports, "problems": problems, "exit_status": int(bool(problems))}
    )


if __name__ == "__main__":
    main(reproduce)
