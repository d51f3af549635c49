"""A battery: every attack on its images, or a cascade; the worst case, the checkpoint, the budgets."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from gauntlet.attacks import ATTACKS, Fgsm, GaussianNoise, Pgd, UniformNoise, attack
from gauntlet.checkpoint import Checkpoint
from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.evaluation import shards
from gauntlet.evaluation.battery import Battery, Job, attack_all, rescored, run
from gauntlet.evaluation.outcome import worst_case
from gauntlet.models.classifier import CompiledClassifier

N = 40
CHEAP = ("noise-uniform", "fgsm", "pgd:max_iter=5", "square:max_iter=20")
AUTO = ("apgd-ce:max_iter=5", "apgd-dlr:max_iter=5,targets=2", "fab:max_iter=3,targets=2", "square:max_iter=20")


@pytest.fixture(scope="module")
def job(classifier: CompiledClassifier, digits: Dataset) -> Job:
    x, y = digits.x_test[:N], digits.y_test[:N]
    return Job(classifier, x, y, classifier.labels(x), seed=0)


def every(n: int | None) -> np.ndarray:
    return np.arange(N if n is None else n)


def battery(
    *names: str, eps: tuple[float, ...] = (0.05, 0.15), cascade: bool | None = None, n: int | None = N
) -> Battery:
    return Battery(attack=names, eps=eps, n=n, cascade=cascade)


def changed(job: Job, **facts: Any) -> Job:
    return replace(job, **facts)


def test_every_attack_at_every_budget_on_all_images(job: Job) -> None:
    results = run(battery(*CHEAP), job, every)
    assert [(r.attack.name, r.eps) for r in results] == [
        (name.partition(":")[0], eps) for name in CHEAP for eps in (0.05, 0.15)
    ]
    assert all(r.alone and len(r.index) == N for r in results)


def test_a_cascade_spares_what_is_broken_and_its_worst_case_is_the_mean_of_minima(job: Job) -> None:
    results = run(battery(*CHEAP, cascade=True), job, every)
    for case in worst_case(results):
        group = [r for r in results if r.eps == case.eps and r.attack.adversary]
        for before, after in itertools.pairwise(group):
            np.testing.assert_array_equal(after.tried, before.robust)
            assert not (after.robust & ~before.robust).any()
            assert (after.calls[~after.tried] == 0).all()
        np.testing.assert_array_equal(case.robust, np.logical_and.reduce([r.robust for r in group]))
        assert case.robust.sum() == group[-1].robust.sum()
    noise = [r for r in results if not r.attack.adversary]
    assert all(r.alone for r in noise)


def test_a_cascade_finds_no_less_than_its_attacks_alone(job: Job) -> None:
    alone, together = (worst_case(run(battery(*CHEAP, cascade=c), job, every)) for c in (False, True))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.robust, other.robust)


def test_autoattack_is_a_cascade_of_four_in_order() -> None:
    preset = Battery(attack="autoattack")
    assert [one.name for one in preset.ordered()] == ["apgd-ce", "apgd-dlr", "fab", "square"]
    assert preset.is_cascade
    assert not battery("fgsm", "pgd").is_cascade
    assert not battery("autoattack", cascade=False).is_cascade


def test_the_worst_case_is_no_better_than_each_attack(job: Job) -> None:
    results = run(battery(*AUTO, cascade=False), job, every)
    for case in worst_case(results):
        assert all(case.robust.mean() <= r.robust.mean() for r in results if r.eps == case.eps)


def test_an_image_has_the_same_outcome_in_any_subset(job: Job) -> None:
    whole, part = (run(battery(*AUTO, eps=(0.1,)), job, lambda _, i=i: i) for i in (np.arange(N), np.arange(7, 23)))
    for one, other in zip(whole, part, strict=True):
        assert (one.robust[7:23] != other.robust).sum() <= 1  # a rounding may flip an image


def test_an_image_has_the_same_outcome_in_any_shard(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(battery(*CHEAP), job, every)
    monkeypatch.setattr(shards.OneByOne, "size", 9)
    for one, other in zip(whole, run(battery(*CHEAP), job, every), strict=True):
        assert (one.robust != other.robust).sum() <= 1  # a rounding may flip an image


def test_a_search_for_the_smallest_perturbation_runs_once_and_tells_distances(job: Job) -> None:
    near, far = attack_all(attack("deepfool:norm=inf"), job, np.arange(12), (0.05, 0.3))
    assert near.distance is not None
    np.testing.assert_array_equal(near.distance, far.distance)
    within = (near.distance <= 0.05 - 1e-6) & (near.clean_predictions == near.labels)
    assert not near.robust[within].any()
    assert near.linf.max() <= 0.05 + 1e-5
    assert far.robust.sum() <= near.robust.sum()


def test_in_a_cascade_a_search_may_find_nothing_left_to_try(job: Job) -> None:
    results = run(battery("pgd:max_iter=20", "deepfool:norm=inf", eps=(0.05, 0.9), cascade=True, n=12), job, every)
    search = results[-1]
    assert (search.attack.name, search.eps, search.tried.any()) == ("deepfool", 0.9, False)
    np.testing.assert_array_equal(search.robust, results[1].robust)


def test_few_images_are_kept_unless_all_are_asked_for(job: Job) -> None:
    few, all_of_them = (run(battery("fgsm"), changed(job, keep=keep), every)[0] for keep in (5, None))
    assert len(few.images) == 5
    assert len(all_of_them.images) == N
    np.testing.assert_array_equal(few.robust, all_of_them.robust)


def bright() -> CompiledClassifier:
    """Class 1 for images brighter than 0.5 on the average, else class 0."""
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    network.set_weights([np.array([[0, 0.25]] * 4, np.float32), np.array([0.5, 0], np.float32)])
    return CompiledClassifier(network)


def small(x: np.ndarray, y: np.ndarray) -> Job:
    return Job(bright(), x, y, bright().labels(x), seed=0)


def test_an_image_that_was_wrong_and_becomes_right_is_not_robust() -> None:
    dark, light = np.full((1, 2, 2, 1), 0.2, np.float32), np.full((1, 2, 2, 1), 0.8, np.float32)
    x, y = np.concatenate([dark, light]), np.array([1, 1])  # the first is wrong unattacked
    result = rescored(Fgsm(), 0.7, np.arange(2), np.concatenate([light, light]), small(x, y))
    assert result.clean_predictions.tolist() == [0, 1]
    assert result.predictions.tolist() == [1, 1]
    assert result.robust.tolist() == [False, True]
    assert result.fooled.tolist() == [False]


def test_the_perturbation_is_measured_and_not_believed() -> None:
    x, y = np.full((3, 2, 2, 1), 0.5, np.float32), np.zeros(3, np.int64)
    result = rescored(Fgsm(), 0.1, np.array([0, 2]), x[:2] + np.float32(0.25), small(x, y))
    np.testing.assert_allclose(result.linf, 0.25)
    np.testing.assert_allclose(result.l2, 0.5)


def test_images_made_against_another_model_are_a_transfer(job: Job) -> None:
    flat = np.zeros((784, 10), np.float32), np.eye(10, dtype=np.float32)[0]
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    network.set_weights(list(flat))
    constant = CompiledClassifier(network)
    own = run(battery("fgsm", eps=(0.1,)), job, every)[0]
    other = run(battery("fgsm", eps=(0.1,)), changed(job, target=constant, source=job.target), every)[0]
    assert (own.knowledge, other.knowledge) == ("white-box", "transfer")
    np.testing.assert_array_equal(own.images, other.images)
    assert (other.predictions == 0).all()
    assert own.seconds > 0


def test_progress_is_told_and_rises(job: Job) -> None:
    told: list[float] = []
    run(battery("noise-uniform", "fgsm"), job, every, lambda _, share: told.append(share))
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


def test_a_battery_without_budgets_takes_the_usual_ones(job: Job) -> None:
    assert [r.eps for r in run(battery("fgsm", eps=(), n=5), job, every)] == [0.1, 0.2, 0.3]


def test_saved_images_scored_on_another_model_are_a_transfer(job: Job) -> None:
    made = run(battery("fgsm", eps=(0.1,)), job, every)[0]
    scored = rescored(made.attack, 0.1, made.index, made.images, job)
    assert scored.knowledge == "transfer"
    np.testing.assert_array_equal(scored.predictions, made.predictions)
    assert worst_case([scored]) == []


# --- interruption -------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for a kill."""


def test_interrupted_it_goes_on_from_the_last_finished_shard(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards.OneByOne, "size", 10)
    kept = changed(job, checkpoint=Checkpoint(tmp_path / "pieces"))
    undisturbed = run(battery(*CHEAP, cascade=True), job, every)
    made, craft = [], shards.crafted

    def counted(bench: Any, shard: Any, *rest: Any) -> Any:
        made.append((shard.attack.name, *shard.index[:1]))
        if len(made) == 14:
            raise Killed
        return craft(bench, shard, *rest)

    monkeypatch.setattr(shards, "crafted", counted)
    with pytest.raises(Killed):
        run(battery(*CHEAP, cascade=True), kept, every)
    before = len(made)
    results = run(battery(*CHEAP, cascade=True), kept, every)
    for one, other in zip(undisturbed, results, strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.calls, other.calls)
    # Only the piece that was under way is made again.
    assert len(made) - before <= 4 * len(CHEAP) * 2 - 13


def test_another_seed_or_setting_does_not_take_the_pieces_of_this_one(job: Job, tmp_path: Path) -> None:
    kept = changed(job, checkpoint=Checkpoint(tmp_path))
    first = run(battery("pgd:max_iter=3"), kept, every)[0]
    other = run(battery("pgd:max_iter=3"), changed(kept, seed=1), every)[0]
    assert not np.array_equal(first.images, other.images)
    assert len(list(tmp_path.glob("*.npz"))) == 4  # a piece for each seed and budget


def test_a_damaged_piece_is_made_again(job: Job, tmp_path: Path) -> None:
    kept = changed(job, checkpoint=Checkpoint(tmp_path))
    first = run(battery("fgsm"), kept, every)[0]
    for piece in tmp_path.glob("*.npz"):
        piece.write_bytes(piece.read_bytes()[:100])
    np.testing.assert_array_equal(run(battery("fgsm"), kept, every)[0].images, first.images)


def test_a_disk_without_room_does_not_stop_the_work(job: Job, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run(battery("fgsm"), changed(job, checkpoint=Checkpoint(blocked)), every)


# --- what cannot be meant -----------------------------------------------------------------------------------


def test_more_images_than_there_are_is_refused() -> None:
    with pytest.raises(SettingError, match="n: 500 images of a test set of 40"):
        battery("fgsm", n=500).check((28, 28, 1), 40)


@pytest.mark.parametrize("eps", [1.5, 101.0])
def test_a_budget_beyond_the_bounds_is_refused(eps: float) -> None:
    with pytest.raises(SettingError, match="eps of fgsm: a budget of"):
        battery("fgsm", eps=(eps,)).check((28, 28, 1), N)


def test_attacks_have_their_own_numbers_of_images_but_a_cascade_has_one() -> None:
    one_by_one, cascade = (Battery(attack=["fgsm", "pgd"], cascade=c) for c in (False, True))
    assert [one_by_one.images(a, 10_000) for a in one_by_one.attack] == [None, 1_000]
    assert [cascade.images(a, 10_000) for a in cascade.attack] == [1_000, 1_000]


@pytest.mark.parametrize(("n", "subsets"), [(300, 3), (600, 1), (None, 10)])
def test_as_many_subsets_of_test_images_follow_each_other_as_have_none_in_common(n: int | None, subsets: int) -> None:
    assert Battery(attack=["fgsm", "pgd"], n=n).subsets(10_000 if n is None else 1_000) == subsets
    assert Battery(attack=["fgsm"]).subsets(10_000) == 1  # it takes all images


def test_the_usual_attacks_are_those_that_the_model_can_be_attacked_with() -> None:
    assert Battery().filled("gradients").attack == (GaussianNoise(), Fgsm(), Pgd())
    for access in ("scores", "labels"):
        assert {one.access for one in Battery().filled(access).attack} <= {"scores", "labels"}  # type: ignore[arg-type]
    assert Battery(attack="noise-uniform").filled("labels").attack == (UniformNoise(),)


def test_two_settings_of_one_attack_keep_apart(job: Job) -> None:
    few, many = "pgd:max_iter=1", "pgd:max_iter=8"
    results = run(battery(few, many, "fgsm", eps=(0.1,)), job, every)
    assert {r.attack.name: r.named for r in results if r.attack.name == "fgsm"} == {"fgsm": "fgsm"}
    assert [r.named for r in results if r.attack.name == "pgd"] == [few, many]
    alone = {name: run(battery(name, eps=(0.1,)), job, every)[0] for name in (few, many)}
    for result in (r for r in results if r.attack.name == "pgd"):
        np.testing.assert_array_equal(result.images, alone[result.named].images)
    assert len({r.attack.id for r in results}) == 3
    assert alone[few].named == "pgd"


def test_the_same_settings_twice_are_refused() -> None:
    with pytest.raises(SettingError, match="pgd is given twice"):
        battery("pgd", "pgd:max_iter=40").check((28, 28, 1), 360)


# --- few classes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_runs_on_few_classes_or_is_left_out(name: str, n_classes: int, small: Dataset) -> None:
    fitted = attack(name).fitted(n_classes)
    if fitted is None:
        assert (name, n_classes) == ("apgd-dlr", 2)
        return
    changes = {"max_iter": 2, "num_random_init": 1, "binary_search_steps": 1, "angles": 1, "shifts": 1}
    few = fitted.model_copy(update={k: v for k, v in changes.items() if k in type(fitted).model_fields})
    kept = np.flatnonzero(small.y_test < n_classes)[:4]
    images = keras.Input((28, 28, 1))
    linear = keras.Model(images, keras.layers.Dense(n_classes)(keras.layers.Flatten()(images)))
    x = small.x_test[kept]
    made = few.run(CompiledClassifier(linear), x, small.y_test[kept], few.budgets((), 1)[0], 0)
    assert made.images.shape == x.shape


def test_a_preset_without_its_ratio_is_still_a_cascade() -> None:
    few = Battery(attack=("autoattack",)).fitted(2)
    assert [one.name for one in few.attack] == ["apgd-ce", "fab", "square"]
    assert few.is_cascade
    assert few.left_out == ("apgd-dlr is left out: it needs more than 2 classes",)
    three = Battery(attack=("autoattack",)).fitted(3)
    assert (len(three.attack), three.left_out) == (4, ())
    assert Battery(attack=("autoattack",)).fitted(4) == Battery(attack=("autoattack",))


@pytest.mark.parametrize("asked", [("apgd-dlr",), ("noise-uniform", "apgd-dlr")])
def test_nothing_but_what_cannot_run_is_refused(asked: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="apgd-dlr needs more than the 2 classes of this data"):
        Battery(attack=asked).fitted(2)
