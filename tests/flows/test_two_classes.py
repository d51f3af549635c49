"""Two classes are data like any other: every flow works, and what cannot be done on them is said first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.attack import AttackConfig
from flows.datascan import DataScanConfig
from flows.night import NightlyConfig
from flows.poison import PoisonConfig
from flows.privacy import PrivacyConfig
from flows.suite import SuiteConfig
from gauntlet.data.datasets import read_dataset
from gauntlet.errors import SettingError
from tasks.store import tracking
from tests.frozen import halved

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "n": 40, "eps": [0.2]}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digits 3 and 8, called 0 and 1."""
    digits, arrays = read_dataset("digits"), {}
    for part in ("train", "test"):
        x, y = getattr(digits, f"x_{part}"), getattr(digits, f"y_{part}")
        kept = np.isin(y, (3, 8))
        arrays |= {f"x_{part}": halved(x[kept]), f"y_{part}": (y[kept] == 8).astype(np.int64)}
    path = tmp_path_factory.mktemp("two") / "two.npz"
    np.savez_compressed(path, **arrays)
    return str(path)


@pytest.fixture(scope="module")
def suite_run(two: str, store: str) -> dict[str, Any]:
    from flows.suite import suite

    attacks = ["fgsm", "apgd-ce:max_iter=5", "apgd-dlr", "fab:max_iter=3", "square:max_iter=20"]
    made: dict[str, Any] = suite(dataset=two, tracking_uri=store, attack=attacks, defense=["on-the-fly"], **QUICK)
    return made


@pytest.mark.slow
def test_a_suite_ends_with_every_stage(suite_run: dict[str, Any]) -> None:
    conditions = {row["condition"] for row in suite_run["measurements"]}
    assert any("apgd-ce" in one for one in conditions)
    assert not any("apgd-dlr" in one for one in conditions)
    assert any(row["metric"] == "attack_success_rate" for row in suite_run["measurements"])


@pytest.mark.slow
def test_what_is_left_out_is_told_before_and_after(
    two: str, suite_run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    SuiteConfig(dataset=two, attack=("autoattack",)).check()
    assert "note: apgd-dlr is left out: it needs more than 2 classes" in capsys.readouterr().err
    notes = [run.data.tags.get("gauntlet.notes", "") for run in tracking.children(suite_run["run_id"])]
    assert any("apgd-dlr is left out" in note for note in notes)


def test_autoattack_stays_a_cascade_without_the_ratio(two: str) -> None:
    battery = AttackConfig(model="none", dataset=two, attack=("autoattack",)).battery()
    assert [one.name for one in battery.ordered()] == ["apgd-ce", "fab", "square"]
    assert battery.is_cascade


def test_the_nights_own_battery_and_trigger_fit(two: str) -> None:
    config = NightlyConfig(dataset=two)
    config.check()
    assert [one.name for one in config.battery().attack] == ["noise-uniform", "fgsm", "pgd", "apgd-ce"]
    assert [one.aimed(2).target for one in config.trigger] == [1]


@pytest.mark.parametrize(
    ("config", "asked", "line"),
    [
        (SuiteConfig, {"poisoning": "corner-trigger:target=7"}, "there is no class 7"),
        (SuiteConfig, {"poisoning": "corner-trigger:count=100000"}, "100000 images wanted"),
        (SuiteConfig, {"attack": ("apgd-dlr",)}, "apgd-dlr needs more than the 2 classes"),
        (SuiteConfig, {"attack": ("pgd:target=2",)}, "there is no class 2 among 2"),
        (PoisonConfig, {"poisoning": "patch:size=40"}, "a square of 40 pixels does not fit"),
        (DataScanConfig, {"poisoning": "corner-trigger:target=2"}, "there is no class 2"),
        (NightlyConfig, {"trigger": ("corner-trigger:target=2",)}, "there is no class 2"),
        (NightlyConfig, {"trigger": ("label-flips",)}, "no image is meant to change its class"),
        (PrivacyConfig, {"theft": ("extraction-knockoff:queries=100000",)}, "100,000 asked for"),
        (PrivacyConfig, {"n": 100_000}, "100000 members and as many non-members"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    config: type[Any], asked: dict[str, Any], line: str, two: str
) -> None:
    with pytest.raises(SettingError, match=line):
        config(dataset=two, **asked).check()


@pytest.mark.slow
def test_the_target_is_logged(two: str, store: str) -> None:
    from flows.poison import poison

    made = poison(dataset=two, tracking_uri=store, epochs=1, batch_size=32, poisoning="corner-trigger:rate=0.2")
    assert tracking.read(made["run_id"]).data.params["poisoning.target"] == "1"
