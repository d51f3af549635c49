"""What the probes see in an honest network, and in ones broken in the way that each looks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gauntlet.attacks import ApgdCe, ApgdDlr, Attack, Fab, Fgsm, GaussianNoise, Pgd, Square
from gauntlet.errors import ModelError
from gauntlet.evaluation.battery import Battery, Job, run
from gauntlet.evaluation.outcome import Attacked
from gauntlet.validity import canaries, probes, slopes
from gauntlet.validity.probes import Probes, probabilities, probe
from gauntlet.validity.slopes import Slopes
from gauntlet.validity.stakes import at_stake

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.threat import Images, Labels

N = 32


@pytest.fixture(scope="module")
def images(digits: Dataset, classifier: CompiledClassifier) -> tuple[Images, Labels]:
    """Images that the shared model classifies correctly."""
    rows = np.flatnonzero(classifier.labels(digits.x_test) == digits.y_test)[:N]
    return digits.x_test[rows], digits.y_test[rows]


@pytest.fixture(scope="module")
def broken(model: keras.Model) -> Callable[[str], CompiledClassifier]:
    """The shared model broken as a canary is."""
    from gauntlet.models.classifier import CompiledClassifier

    made: dict[str, CompiledClassifier] = {}

    def get(name: str) -> CompiledClassifier:
        return made.setdefault(name, CompiledClassifier(canaries.CANARIES[name].build(model)))

    return get


def attacked(attack: Attack, eps: float, robust: int, n: int = 100, calls: int = 10, **facts: Any) -> Attacked:
    """A result on n images, of which the first `robust` were withstood."""
    nothing, zeros = np.zeros(n, np.int64), np.zeros(n)
    facts = {"knowledge": "white-box", "distance": None, "seconds": 0.0, "tried": np.ones(n, bool)} | facts
    facts |= {"labels": nothing, "clean_predictions": nothing, "calls": nothing + calls, "losses": zeros}
    facts |= {"index": np.arange(n), "predictions": (np.arange(n) >= robust).astype(np.int64)}
    return Attacked(attack, eps, linf=zeros + eps, l2=zeros, images=np.zeros((n, 1, 1, 1), np.float32), **facts)


# --- what the model answers, and its gradients ----------------------------------------------------------------


def test_an_honest_network_answers_twice_the_same_and_in_logits(
    classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    assert probes.disagreement(classifier, images[0]) == 0
    assert not probes.probabilities(classifier, images[0])


@pytest.mark.parametrize("name", ["zero_gradients", "detached", "disagreeing"])
def test_an_honest_network_has_true_gradients(
    name: str, classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    assert getattr(slopes, name)(Slopes(classifier, *images)) == 0


def test_no_further_point_is_looked_at_once_nobody_is_left(
    classifier: CompiledClassifier, images: tuple[Images, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()
    predict = type(classifier).predict
    monkeypatch.setattr(type(classifier), "predict", lambda self, x: asked.append(len(x)) or predict(self, x))
    at = Slopes(classifier, *images)
    assert (slopes.detached(at), slopes.disagreeing(at)) == (0, 0)
    assert asked[:3] == [N, N, N]
    assert sum(asked) < 5 * N


@pytest.mark.parametrize(
    ("canary", "name"),
    [
        ("quantised-inputs", "zero_gradients"),
        ("quantised-inputs", "detached"),
        ("sign-activation", "zero_gradients"),
        ("gradient-stopped", "detached"),
    ],
)
def test_a_false_gradient_is_seen(
    canary: str, name: str, broken: Callable[[str], CompiledClassifier], images: tuple[Images, Labels]
) -> None:
    assert getattr(slopes, name)(Slopes(broken(canary), *images)) > 0.9


def test_a_network_that_is_silent_away_from_the_data_is_not_accused(
    digits: Dataset, centroids: tuple[np.ndarray, np.ndarray]
) -> None:
    """Its units fall silent on any brighter image: nothing can be said of it there."""
    import keras

    from gauntlet.models.classifier import CompiledClassifier

    weights, bias = centroids
    inked = digits.x_train.sum(axis=(1, 2, 3)).max()
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "relu")])
    model.layers[-1].set_weights([weights - 2, bias + 2 * inked])
    silent = CompiledClassifier(model)
    rows = np.flatnonzero(silent.labels(digits.x_test) == digits.y_test)[:N]
    x, y = digits.x_test[rows], digits.y_test[rows]
    brighter = silent.look(x + np.float32(0.25), y, "difference", (y + 1) % 10)
    assert slopes.none(brighter.gradient).all()
    beside = Slopes(silent, x, y).at(slopes.SPREADS[0])
    assert not slopes.none(beside.gradient).any()
    assert slopes.detached(Slopes(silent, x, y)) == 0
    assert slopes.disagreeing(Slopes(silent, x, y)) == 0


def test_a_promise_that_rounding_swallows_is_no_disagreement(model: keras.Model, images: tuple[Images, Labels]) -> None:
    """Saturated units: gradients of a millionth, beside logits of 100."""
    import keras

    from gauntlet.models.classifier import CompiledClassifier

    offset = np.linspace(100, 91, 10, dtype=np.float32)
    faint = CompiledClassifier(keras.Model(model.inputs[0], 1e-6 * model.outputs[0] + offset))
    assert slopes.disagreeing(Slopes(faint, *images)) == 0


def test_gradients_of_saturated_probabilities_are_lost_in_rounding(
    model: keras.Model, classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    """The mean of softmaxes that are so sure that float32 holds no more of them than 0 and 1."""
    import keras

    from gauntlet.models.adapter import adapt
    from gauntlet.models.classifier import CompiledClassifier

    pixels = keras.Input(model.input_shape[1:])
    sure = [keras.layers.Softmax()(times * model(pixels)) for times in (100.0, 200.0)]
    saturated = adapt(keras.Model(pixels, keras.layers.Average()(sure)), *images, n_classes=10)
    assert slopes.faint(Slopes(CompiledClassifier(saturated.model), *images)) > 0.8
    assert slopes.faint(Slopes(classifier, *images)) == 0


def test_what_one_descent_leaves_at_half_the_range_is_tried_again(
    classifier: CompiledClassifier, images: tuple[Images, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, int, int]] = []
    run_pgd = Pgd.run

    def stuck(self: Pgd, model: Any, x: Images, *rest: Any) -> Any:
        tried.append((self.name, self.num_random_init, len(x)))
        made = run_pgd(self, model, x, *rest)
        return made if self.num_random_init else replace(made, images=x)

    monkeypatch.setattr(Pgd, "run", stuck)
    assert probes.half_range(classifier, *images, seed=0) == (0, 0)
    assert tried == [("pgd", 0, N), ("pgd", probes.RESTARTS, N)]


def test_huge_logits_hide_no_gradient(model: keras.Model, images: tuple[Images, Labels]) -> None:
    import keras

    from gauntlet.models.classifier import CompiledClassifier

    huge = CompiledClassifier(keras.Model(model.inputs[0], 100.0 * model.outputs[0]))
    assert slopes.zero_gradients(Slopes(huge, *images)) == 0
    assert slopes.detached(Slopes(huge, *images)) == 0


def test_a_constant_is_not_detached(broken: Callable[[str], CompiledClassifier], images: tuple[Images, Labels]) -> None:
    assert slopes.detached(Slopes(broken("constant"), *images)) == 0


def test_a_replaced_gradient_disagrees(model: keras.Model, images: tuple[Images, Labels]) -> None:
    """Straight through a quantiser: the gradient is there, and the output does not change along it."""
    import keras

    from gauntlet.models.classifier import CompiledClassifier

    pixels = keras.Input(model.input_shape[1:])
    rounded = pixels + keras.ops.stop_gradient(keras.ops.round(pixels) - pixels)
    replaced = CompiledClassifier(keras.Model(pixels, model(rounded)))
    assert slopes.disagreeing(Slopes(replaced, *images)) > 0.5
    assert slopes.detached(Slopes(replaced, *images)) == 0


def test_random_answers_and_probabilities_are_seen(
    broken: Callable[[str], CompiledClassifier], images: tuple[Images, Labels]
) -> None:
    assert probes.disagreement(broken("noise-layer"), images[0]) == 1
    assert probes.probabilities(broken("double-softmax"), images[0])


def test_half_the_range_and_no_bound_leave_nothing_of_an_honest_network(
    classifier: CompiledClassifier, broken: Callable[[str], CompiledClassifier], images: tuple[Images, Labels]
) -> None:
    assert probes.half_range(classifier, *images, seed=0) == (0, 0)
    half, whole = probes.half_range(broken("gradient-stopped"), *images, seed=0)
    assert 0.5 < half < 1  # some random starts are wrong by chance
    assert 0 < whole <= half


def test_beyond_the_usual_budgets_more_images_are_tried_only_where_the_first_tell_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def left(share: float) -> dict[str, Any]:
        tried.clear()

        def half_range(_: Any, x: Images, *__: Any) -> tuple[float, float]:
            tried.append(len(x))
            return share, share if len(tried) == 1 else 1.0

        monkeypatch.setattr(probes, "half_range", half_range)
        return probes._beyond(None, np.zeros((384, 1, 1, 1), np.float32), np.zeros(384, np.int64), 0)  # type: ignore[arg-type]

    assert left(3 / 64) == {"half_range": 3 / 64, "unbounded": 3 / 64, "sample": 64}
    assert tried == [64]
    probed = left(2 / 64)
    assert tried == [64, 320]
    assert probed["sample"] == 384
    assert probed["unbounded"] == pytest.approx(322 / 384)
    assert probed["half_range"] == pytest.approx(2 / 64)


# --- which results are attacked again -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("robust", "expected"),
    [
        ({0.1: 60, 0.2: 30, 0.3: 20}, 0.3),
        ({0.1: 60, 0.2: 30, 0.3: 2}, 0.2),
        ({0.1: 60, 0.2: 15, 0.3: 0}, 0.1),  # 15 images say nothing
        ({0.1: 15, 0.2: 15, 0.3: 0}, None),
        ({0.3: 40, 0.1: 60}, 0.3),
    ],
)
def test_the_largest_budget_that_leaves_enough_is_at_stake(robust: dict[float, int], expected: float | None) -> None:
    stakes = at_stake([attacked(Pgd(), eps, left) for eps, left in robust.items()])
    assert [case.eps for case in stakes] == ([] if expected is None else [expected])


def test_of_many_images_a_few_percent_are_at_stake_when_there_is_no_more() -> None:
    stakes = at_stake([attacked(Pgd(), eps, left, n=1000) for eps, left in ((0.1, 50), (0.2, 20), (0.3, 0))])
    assert [case.eps for case in stakes] == [0.1]


def test_each_norm_is_at_stake_and_transfers_and_noise_are_not() -> None:
    results = [attacked(Pgd(), 0.1, 50), attacked(Pgd(norm="2"), 1.0, 50), attacked(GaussianNoise(), 0.3, 90)]
    results += [attacked(Pgd(), 0.3, 90, knowledge="transfer")]
    assert [(case.norm, case.eps) for case in at_stake(results)] == [("2", 1.0), ("inf", 0.1)]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([attacked(Pgd(), 0.1, 50), attacked(ApgdCe(), 0.1, 40)], ("apgd-ce", 128)),
        ([attacked(Pgd(), 0.1, 50, calls=100), attacked(ApgdCe(), 0.1, 60)], ("pgd", 80)),
        ([attacked(Pgd(), 0.1, 50), attacked(Fab(), 0.1, 40, calls=900)], ("pgd", 128)),  # too dear
        ([attacked(Fgsm(), 0.1, 50), attacked(Square(), 0.1, 60)], None),
    ],
)
def test_the_strongest_gradient_attack_is_tried_again_on_as_many_images_as_can_be_paid(
    results: list[Attacked], expected: tuple[str, int] | None
) -> None:
    strongest = probes._strongest(results)
    assert (strongest and (strongest[0].attack.name, strongest[1])) == expected


@pytest.fixture(scope="module")
def job(digits: Dataset, classifier: CompiledClassifier) -> Job:
    return Job(classifier, digits.x_test, digits.y_test, classifier.labels(digits.x_test), 0)


def fight(job: Job, digits: Dataset, *attacks: Attack) -> list[Attacked]:
    return run(Battery(attack=attacks, eps=(0.1,), n=80), job, lambda n: digits.test_subset(n, 0))


def test_twice_the_steps_of_a_feeble_attack_break_more(job: Job, digits: Dataset) -> None:
    results = fight(job, digits, Fgsm(), Pgd(max_iter=2))
    probed, another = probes.strengthened(job.target, job.x, job.y, results, seed=0)  # type: ignore[arg-type]
    assert (probed.how, another.how, another.attack.name) == ("with twice the steps", "with another loss", "apgd-dlr")
    assert another.broken > 0
    with_dlr = fight(job, digits, Pgd(max_iter=2), ApgdDlr(max_iter=1, targets=0))
    (twice,) = probes.strengthened(job.target, job.x, job.y, with_dlr, seed=0)  # type: ignore[arg-type]
    assert twice.how == "with twice the steps"
    left = int((results[0].robust & results[1].robust).sum())
    assert isinstance(probed.attack, Pgd)
    assert (probed.attack.max_iter, probed.tried) == (4, left)
    assert probed.broken > 0
    assert probed.points == pytest.approx(100 * probed.broken / 80)
    assert probed.rise is not None
    assert probed.rise > 0


def test_the_steps_that_a_feeble_attack_is_told_to_take_are_enough(job: Job, digits: Dataset) -> None:
    feeble, dlr = Pgd(max_iter=2), ApgdDlr(max_iter=1, targets=0)
    (first,) = probes.strengthened(job.target, job.x, job.y, fight(job, digits, feeble, dlr), seed=0)  # type: ignore[arg-type]
    assert first.beats
    assert isinstance(first.enough, Pgd)
    assert first.enough.max_iter >= first.attack.max_iter  # type: ignore[attr-defined]
    results = fight(job, digits, first.enough, dlr)
    (second,) = probes.strengthened(job.target, job.x, job.y, results, seed=0)  # type: ignore[arg-type]
    assert not second.beats
    assert second.enough is None


def test_a_blind_search_is_tried_where_the_battery_has_none(job: Job, digits: Dataset) -> None:
    results = fight(job, digits, Pgd(max_iter=5))
    (probed,) = probes.square_sample(job.target, job.x, job.y, results, seed=0)  # type: ignore[arg-type]
    assert (probed.attack.name, probed.after, probed.rise) == ("square", results[0], None)
    assert probed.broken <= probed.tried <= probes.QUERIED
    with_square = [*results, attacked(Square(), 0.1, 50)]
    assert not list(probes.square_sample(job.target, job.x, job.y, with_square, seed=0))  # type: ignore[arg-type]


# --- all of them ----------------------------------------------------------------------------------------------


def test_an_honest_network_raises_nothing_and_the_same_twice(
    job: Job, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "QUERIES", 40)
    results, said = fight(job, digits, ApgdCe(max_iter=20)), list[float]()
    data = (job.target, job.x, job.y, job.clean)
    probed = probe(*data, results=results, progress=lambda _, share: said.append(share))
    more = {name: getattr(probed, name) for name in ("stronger", "square", "looked", "sample", "followed")}
    assert probed == Probes(half_range=0.0, unbounded=0.0, **more)
    assert [retry.attack.name for retry in (*probed.stronger, *probed.square)] == ["apgd-ce", "apgd-dlr", "square"]
    assert [(one.after.attack.name, one.silent) for one in probed.followed] == [("apgd-ce", 0)]
    assert said == sorted(said)
    assert said[-1] == 1
    correct = int((job.clean == job.y).sum())
    assert (probed.looked, probed.sample) == (min(probes.SAMPLE, correct), min(probes.EXPOSED, correct))
    again = probe(*data, results=results)
    assert [(r.tried, r.broken, r.rise) for r in again.stronger] == [
        (r.tried, r.broken, r.rise) for r in probed.stronger
    ]


def test_who_guesses_is_asked_nothing_more(broken: Callable[[str], CompiledClassifier], digits: Dataset) -> None:
    constant = broken("constant")
    clean = constant.labels(digits.x_test)
    probed = probe(constant, digits.x_test, digits.y_test, clean, better_range="0..255")
    assert probed == Probes(at_chance=float((clean == digits.y_test).mean()), better_range="0..255")


def test_a_model_that_hides_its_gradients_is_only_asked_again(job: Job) -> None:
    class Hidden:
        access, nb_classes, input_shape, clip_values = "scores", 10, (28, 28, 1), (0.0, 1.0)
        asked = 0

        def predict(self, x: Images, **_: Any) -> Images:
            self.asked += 1
            return job.target.predict(x) + np.float32(self.asked)

        def labels(self, x: Images) -> Labels:
            return job.target.labels(x)

    probed = probe(Hidden(), job.x, job.y, job.clean)  # type: ignore[arg-type]
    assert probed == Probes(disagreement=1.0)


def test_scores_that_overflow_far_away_are_not_squashed() -> None:
    class Overflowing:
        clip_values = (0.0, 1.0)

        def predict(self, x: np.ndarray) -> np.ndarray:
            if np.abs(x).max() > 10:
                raise ModelError("the model gives NaN or infinite scores", where="model")
            return np.tile([0.9, 0.1], (len(x), 1)).astype(np.float32)

    assert not probabilities(Overflowing(), np.zeros((4, 2, 2, 1), np.float32))  # type: ignore[arg-type]
