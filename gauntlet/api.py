"""Evaluate a model on arrays from Python, without a server.

>>> import gauntlet
>>> report = gauntlet.evaluate(model, x_test, y_test, eps=8/255)  # doctest: +SKIP
>>> report.robust_accuracy, report.verdict  # doctest: +SKIP
(0.412, 'VALID')
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from gauntlet.data.datasets import digest_of
from gauntlet.data.given import checked
from gauntlet.data.splits import checked_seed
from gauntlet.data.stated import Background, LabelsAs, Stated
from gauntlet.errors import ModelError, SettingError, one_line
from gauntlet.evaluation import effort
from gauntlet.evaluation.battery import Battery, Job, run, spared
from gauntlet.evaluation.clean import Clean, share
from gauntlet.evaluation.clean import evaluate as look
from gauntlet.evaluation.outcome import worst_case
from gauntlet.measurement import Measurement, budget, table
from gauntlet.models.adapter import INVERTED
from gauntlet.models.loaded import Expected, Loaded, graph
from gauntlet.models.pytorch.network import Network
from gauntlet.progress import part, silent
from gauntlet.quiet import load_tensorflow
from gauntlet.validity.evidence import Doubt, Evaluation, Validity
from gauntlet.validity.notes import notes
from gauntlet.validity.probes import probe
from gauntlet.validity.verdicts import doubts, verdict, verdict_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gauntlet.certify import Certified
    from gauntlet.evaluation.outcome import Attacked
    from gauntlet.progress import Progress
    from gauntlet.threat import Images, Labels

PROBE = 1_000
"""Images on which a model's input range, layout and outputs are found."""
SPELT = {"attack": "attacks", "classes": "n_classes"}
"""Settings whose arguments have other names here."""
STORES = "gauntlet_stores"
"""The group of entry points that name where a report can be kept: this package knows no store."""


@dataclass(frozen=True)
class Report:
    """The result of an evaluation: numbers with their intervals, and whether they are valid."""

    loaded: Loaded
    """The classifier, and what was found of the model: input range, layout, outputs, temperature."""
    clean: Clean
    results: Sequence[Attacked]
    certified: Sequence[Certified]
    doubts: Sequence[Doubt]
    notes: Sequence[str]
    name: str = "model"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, with the budgets filled in."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Of the images and labels: SHA-256, how many, and how many of each class."""

    @property
    def robust_accuracy(self) -> float:
        """In [0, 1]: the worst case per image over all attacks, at the largest budget (`worst_case` has them all)."""
        return self.worst_case[-1].value

    @property
    def worst_case(self) -> list[Measurement]:
        """The worst case per image at every budget, rising, with n, interval, and the share that is certified."""
        proven = spared(self.certified, len(self.clean.labels))
        cases = []
        for case in worst_case(self.results):
            measured, known = case.accuracy(self.name), proven.get((case.norm, case.eps))
            cases.append(measured if known is None else measured.with_proven(int(known[case.index].sum())))
        return cases

    @property
    def clean_accuracy(self) -> Measurement:
        """Over all images."""
        return share(self.clean.correct, model=self.name, condition="clean")

    @property
    def measurements(self) -> list[Measurement]:
        """Everything that was measured, each number with n, interval and verdict."""
        attacked = []
        for result in (result for result in self.results if result.alone):
            validity, reasons = verdict_of(result, self.doubts)
            attacked.append(result.accuracy(self.name).model_copy(update={"validity": validity, "reasons": reasons}))
        certified = [one.accuracy(self.name) for one in self.certified]
        return [self.clean_accuracy, *certified, *attacked, *self.worst_case]

    @property
    def verdict(self) -> Validity:
        """VALID, SUSPECT or INVALID."""
        return verdict(self.doubts)[0]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is not VALID; empty when it is."""
        return verdict(self.doubts)[1]

    @property
    def frame(self) -> pd.DataFrame:
        """A row an image, attack and budget: label, predictions, whether it is robust, sizes of the perturbation."""
        import pandas as pd

        return pd.concat([result.frame() for result in self.results], ignore_index=True)

    def figure(self) -> Figure:
        """Robust accuracy by budget; what is certified is dotted, and what is open between the two shaded."""
        from gauntlet.report.figures import robustness_curves

        chance = 1 / self.loaded.classifier.nb_classes
        return robustness_curves(self.measurements, f"{self.name}: robust accuracy by budget", chance)

    def to_html(self) -> str:
        """One self-contained page."""
        from gauntlet.report import document

        facts = {"verdict": self.verdict, "input range": self.loaded.input_range, "outputs": self.loaded.outputs}
        lines = [*self.reasons, *self.notes]
        figures = {"Robust accuracy by budget": self.figure()}
        efforts = [asdict(one) for one in effort.efforts(self.results)]
        tables = document.tables({effort.CAPTION: effort.shown(efforts) if len(efforts) > 1 else []})
        return document.to_html(document.Report(self.name, facts, self.measurements, figures, tables, lines))

    def log_to_mlflow(self, dataset: str = "arrays") -> str:
        """Keep it in MLflow, with the metrics, steps and tags of `gauntlet attack`; returns the run's id.

        It goes into the run that is open (`mlflow.start_run()`), which stays open and whose params are prefixed with
        `gauntlet.`, else into a new run of the experiment `gauntlet-<dataset>`: in the store that MLflow was told of,
        else in the one of the commands. Raises `SettingError`, before anything is logged, when the open run has ended
        meanwhile, or holds an evaluation or a file of the same name already.
        """
        return str(_store("mlflow")(self, dataset))

    def _repr_html_(self) -> str:
        """For notebooks: the numbers, the verdict and its reasons."""
        from html import escape

        lines = "".join(f"<li>{escape(line)}</li>" for line in [*self.reasons, *self.notes])
        return f"{table(self.measurements).T.to_html()}<p><b>{self.verdict}</b></p><ul>{lines}</ul>"

    def __str__(self) -> str:
        lines = [f"{m.label}: {m.text} %, n = {m.n:,}" for m in self.measurements]
        return "\n".join([*lines, *(f"{self.verdict}: {reason}" for reason in self.reasons or ("no doubt",))])


def evaluate(
    model: Any,
    x: Any,
    y: Any,
    eps: float | Sequence[float] = (),
    *,
    attacks: str | Sequence[Any] = ("noise-uniform", "fgsm", "pgd", "apgd-ce"),
    certify: Sequence[Any] = (),
    n: int | None = None,
    cascade: bool | None = None,
    planted: bool = False,
    n_classes: int | None = None,
    pixel_max: float | None = None,
    labels: LabelsAs = "as-is",
    background: Background | None = None,
    seed: int = 0,
    name: str = "model",
    progress: Progress = silent,
    **expected: Any,
) -> Report:
    """Attack a model at every budget, and say whether the numbers are valid.

    `model`: a Keras model, a PyTorch module, the path of a model file (inspected before it is loaded), or a function
    of images. `x` are images (n, h, w) or (n, h, w, c), uint8, uint16 or floats in [0, 1], or with `pixel_max` as the
    value of white; channels first, rows of pixels and transparent images are read as from an `.npz` file (with
    `background`, "black" or "white"). `y` are classes (n,) from 0 on, one-hot rows, or names, which are numbered in
    their order; with `labels="map"` other numbers too. Both may be arrays, lists, tensors or pandas columns. `eps` are
    budgets in units of the pixel range [0, 1]. `attacks` and `certify` are spelt as on the command line
    (`pgd:max_iter=40`). `n` images are attacked, 1,000 by iterative attacks when not given; with `planted` the attacks
    must also find adversarial images that are planted. What is not `expected` of the model (`input_range`, `outputs`,
    `layout`, `normalize`, `bgr`, `output`, `input`, `accept_chance`) is found on clean images. Raises an `InputError`
    of one line for what cannot be evaluated.
    """
    load_tensorflow()
    checked_seed(seed)
    settings = {"eps": np.atleast_1d(eps).tolist(), "n": n, "cascade": cascade, "planted": planted}
    with _one_line_each():
        of_data = Stated(pixel_max=pixel_max, labels=labels, classes=n_classes, background=background)
        stated, asked = _stated(expected), Battery(attack=attacks, certify=certify, **settings)
    if not (asked.attack or asked.certify):
        raise SettingError("nothing is asked for", where="attacks", fix="name an attack or a certificate")
    images, classes, k, prepared = checked(x, y, of_data)
    battery = asked.fitted(k)
    battery.check(images.shape[1:], len(images))
    first = np.sort(np.random.default_rng(seed).permutation(len(images))[:PROBE])
    loaded = stated.opened(_read(model), images[first], classes[first], k)
    battery.check_access(loaded.classifier)
    report = _evaluated(loaded, battery, images, classes, seed, name, progress)
    filled = {"eps": battery.budgets(images.shape[-1]), "cascade": battery.is_cascade, "seed": seed}
    filled |= {"pixel_max": pixel_max, "labels": labels, "background": background, "n_classes": k}
    described = _described(images, classes, k) | {"prepared": "; ".join(prepared)}
    settings = battery.model_dump() | filled | expected
    return replace(report, settings=settings, data=described, notes=[*prepared, *report.notes])


def _evaluated(
    loaded: Loaded, battery: Battery, x: Images, y: Labels, seed: int, name: str, progress: Progress
) -> Report:
    clean = look(loaded.classifier, x, y, [str(label) for label in range(loaded.classifier.nb_classes)])
    job = Job(loaded.classifier, x, y, clean.predictions, seed)
    subset = _subset(len(x), seed)
    certified = battery.certified(job, subset, part(progress, 0, 0.2))
    results = run(battery, job, subset, part(progress, 0.2, 0.8), certified)
    asked: dict[str, Any] = {"better_range": loaded.better_range, "plant": battery.planted, "seed": seed}
    probes = probe(loaded.classifier, x, y, clean.predictions, results=results, **asked)
    flags: dict[str, Any] = {"inverted": loaded.outputs.endswith(INVERTED), "accept_chance": loaded.accept_chance}
    evidence = Evaluation(results, loaded.classifier.nb_classes, probes, certified=certified, **flags)
    lines = [*battery.left_out, *loaded.notes, *notes(evidence)]
    return Report(loaded, clean, results, certified, doubts(evidence), lines, name)


@contextmanager
def _one_line_each() -> Iterator[None]:
    """`SettingError` at the argument instead of pydantic's report."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = SPELT.get(str(first["loc"][0]), str(first["loc"][0]))
        raise SettingError(f"{first['msg']}, got {one_line(repr(first['input']), 100)}", where=where) from None


def _stated(given: Mapping[str, Any]) -> Expected:
    """What is stated of the model; `SettingError` for an argument that does not exist."""
    for name in sorted(given.keys() - Expected.model_fields.keys()):
        fix = f"of a model can be stated: {', '.join(Expected.model_fields)}"
        raise SettingError("there is no such argument", where=name, fix=fix)
    return Expected(**given)


def _described(x: Images, y: Labels, n_classes: int) -> dict[str, Any]:
    """What a data set's summary says, of arrays."""
    counts = {str(label): int(count) for label, count in enumerate(np.bincount(y, minlength=n_classes))}
    return {"digest": digest_of((x, y)), "source": "arrays", "test_size": len(y), "test_label_counts": counts}


def _store(name: str) -> Callable[[Report, str], Any]:
    """What keeps a report there; `SettingError` when nothing that is installed does."""
    for point in entry_points(group=STORES, name=name):
        return point.load()
    what = f"nothing that is installed keeps reports in {name}"
    raise SettingError(what, where="report", fix="pip install gauntlet-robustness")


def _subset(size: int, seed: int) -> Callable[[int | None], Any]:
    """Sorted positions of so many images; a smaller choice is a subset of every larger one."""
    order = np.random.default_rng(seed).permutation(size)
    return lambda n: np.arange(size) if n is None else np.sort(order[:n])


def _read(model: Any) -> Any:
    """A file's model, by its path, or whatever was given."""
    if isinstance(model, str | Path):
        from gauntlet.models.files import load_file

        return load_file(Path(model))
    found = graph(model)
    if not (callable(found) or isinstance(found, Network)):
        fix = "give a Keras model, a PyTorch module, a file's path, or a function of images such as model.predict_proba"
        raise ModelError(f"a {type(model).__name__} is no model", where="model", fix=fix)
    return found


def assert_robust(model: Any, x: Any, y: Any, eps: float, at_least: float, **more: Any) -> Report:
    """For tests: `AssertionError` unless the evaluation is VALID and at least this share of the images is robust.

    The rest is as for `evaluate`, whose report it returns.
    """
    report = evaluate(model, x, y, eps, **more)
    worst = report.worst_case[-1]
    problems = [f"the evaluation is {report.verdict}: {reason}" for reason in report.reasons]
    if worst.value < at_least:
        problems.append(
            f"robust accuracy at {budget(eps)} is {worst.text} % of n = {worst.n:,}, below {100 * at_least:g} %"
        )
    if problems:
        raise AssertionError("; ".join(problems))
    return report
