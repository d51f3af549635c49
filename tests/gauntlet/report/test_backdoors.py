"""Pictures of a model's scan: every class has its candidates, the suspected one stands out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from gauntlet.backdoor.scan import ClassResult, ScanResult
from gauntlet.backdoor.statistics import against_references
from gauntlet.backdoor.triggers import Found
from gauntlet.report.backdoors import MOST, class_values, inverted_triggers
from gauntlet.report.figures import VERMILION


def made(k: int, channels: int, target: int | None) -> ScanResult:
    """A result of k classes and any other, and what three references had."""
    rng, candidates, goals = np.random.default_rng(0), [], k + 1
    for kind, unit in (("patch", "pixels"), ("perturbation", "L2"), ("probe", "pixels")):
        mask = np.zeros((goals, 12, 12, 1), np.float32)
        if kind != "perturbation":
            mask[:, 8:, 8:] = 1
        sizes = rng.uniform(20, 30, goals)
        sizes[0] = np.inf
        values = np.log(np.minimum(sizes, 144))
        if target is not None:
            sizes[target], values[target] = 4, np.log(4)
        pattern = rng.uniform(-0.2, 1, (goals, 12, 12, channels)).astype(np.float32)
        candidates.append(Found(kind, unit, sizes, values, mask, pattern))
    references = {one.kind: np.log(rng.uniform(20, 30, (3, goals))) for one in candidates}
    tested = [against_references(one.values, references[one.kind], 0.001) for one in candidates]
    p_values = [1e-9 if label == target else 0.5 for label in range(goals)]
    classes = [ClassResult(label, "patch", -1.0, p, 0.9, 0.8, 0.95) for label, p in enumerate(p_values)]
    verdict = "CLEAN" if target is None else "BACKDOORED"
    accused = () if target is None else (target,)
    known = [references[one.kind] for one in candidates]
    return ScanResult(verdict, target, min(p_values), [], classes, candidates, tested, known, accused)


@pytest.mark.parametrize("channels", [1, 3])
def test_candidates_are_drawn_for_every_class_and_the_target_is_vermilion(channels: int) -> None:
    result = made(10, channels, target=4)
    image = np.full((12, 12, channels), 0.5, np.float32)
    figure = inverted_triggers(result, image, [f"class {k}" for k in range(10)], "title")
    assert len(figure.axes) == 6
    ticks = figure.axes[1].get_xticklabels()
    assert [tick.get_text() for tick in ticks][4] == "class 4\n4 pixels"
    assert ticks[0].get_text() == "class 0\nnone works"
    assert [to_hex(tick.get_color()) == to_hex(VERMILION) for tick in ticks] == [k == 4 for k in range(11)]


def test_of_many_classes_the_most_suspicious_are_drawn() -> None:
    result = made(40, 1, target=33)
    figure = inverted_triggers(result, np.zeros((12, 12, 1), np.float32), [f"c{k}" for k in range(40)], "title")
    texts = [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
    assert len(texts) == MOST
    assert texts[-1].startswith("c33")


def test_values_stand_beside_the_references_and_the_alarm() -> None:
    result = made(6, 1, target=2)
    figure = class_values(result, [str(k) for k in range(6)], "title")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(labels) == ["alarm below", "clean models", "this model", "this model, suspected class"]
    assert len(figure.axes) == 3
    nothing = [np.zeros((0, 7))] * len(result.found)
    alone = class_values(replace(result, known=nothing), [str(k) for k in range(6)], "title")
    assert "clean models" not in [text.get_text() for text in alone.axes[0].get_legend().get_texts()]
