"""Membership inference: was this image trained on? Training images are members, test images are not.

The advantage is the true minus the false positive rate (Yeom, Giacomelli, Fredrikson, Jha, Privacy Risk in Machine
Learning, CSF 2018, definition 4): 0 is guessing, 1 is certainty. It is an average; what an attacker knows about a few
images with certainty is the true positive rate at a small false positive rate (Carlini et al., Membership Inference
Attacks From First Principles, S&P 2022, section III).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import SettingError
from gauntlet.models.access import Access, Target
from gauntlet.models.outputs import cross_entropies
from gauntlet.privacy.theft import Roc, Theft, TheftResult
from gauntlet.progress import Progress, silent
from gauntlet.roc import Rate, Scores, evaluate_detector, rate, sensitivity
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset

Bools = NDArray[np.bool_]
LEVELS = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_01": 0.001}
"""Metric to false positive rate; one that takes less than one image is left out."""


class MembershipGap(Theft):
    """Correctly classified images are members (Yeom et al. 2018, section 3.2): the gap between two accuracies."""

    name: Literal["membership-gap"] = "membership-gap"
    headline: ClassVar[str] = "advantage"
    needs: ClassVar[Access] = "labels"
    knows: ClassVar[str] = "predicted classes and true labels"

    def check(self, dataset: Dataset, n: int | None) -> None:
        """As many members as non-members."""
        sample(dataset, n, 0)

    def run(
        self, victim: Target, dataset: Dataset, n: int | None, seed: int, progress: Progress = silent
    ) -> TheftResult:
        """Advantage over all images: nothing is fitted."""
        members, others = (victim.labels(x) == y for x, y in sample(dataset, n, seed))
        rates = _guessed(members, others)
        roc = Roc(*(np.array([rates[name].value]) for name in ("fpr", "tpr")))
        return TheftResult(self, rates, {"members": len(members), "non_members": len(others)}, roc)


class MembershipLoss(Theft):
    """Images with a small cross-entropy are members (Yeom et al. 2018, section 3.3, the threshold learned).

    One half of the images chooses the threshold with the largest advantage, the other half measures: on the
    images it was chosen on, the advantage of a model that leaks nothing would be above 0.
    """

    name: Literal["membership-loss"] = "membership-loss"
    headline: ClassVar[str] = "advantage"
    needs: ClassVar[Access] = "scores"
    knows: ClassVar[str] = "scores, true labels, and for half of the images who is a member"

    def check(self, dataset: Dataset, n: int | None) -> None:
        """As many members as non-members."""
        sample(dataset, n, 0)

    def run(
        self, victim: Target, dataset: Dataset, n: int | None, seed: int, progress: Progress = silent
    ) -> TheftResult:
        """Advantage, area and true positive rates on the second half of the images."""
        members, others = (-cross_entropies(victim.predict(x), y) for x, y in sample(dataset, n, seed))
        half = len(members) // 2
        threshold = best_threshold(others[:half], members[:half])
        evaluation = evaluate_detector(others[half:], members[half:], threshold)
        rates = _guessed(members[half:] > threshold, others[half:] > threshold) | {"auc": evaluation.auc}
        counts = {"members": evaluation.n_attacked, "non_members": evaluation.n_clean, "calibration": 2 * half}
        return TheftResult(
            self, rates | _at_levels(members[half:], others[half:]), counts, Roc(evaluation.fpr, evaluation.tpr)
        )


def sample(dataset: Dataset, n: int | None, seed: int) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """`n` training and `n` test images with labels, in random order; as many as both have when not given."""
    sizes = len(dataset.x_train), len(dataset.x_test)
    wanted = min(sizes) if n is None else n
    if not 2 <= wanted <= min(sizes):
        what = f"{wanted} members and as many non-members asked for, {dataset.name} has {sizes[0]} and {sizes[1]}"
        raise SettingError(what, where="n", fix=f"give a whole number from 2 to {min(sizes)}")
    rng = np.random.default_rng(seed)
    inside, outside = (rng.permutation(size)[:wanted] for size in sizes)
    return (dataset.x_train[inside], dataset.y_train[inside]), (dataset.x_test[outside], dataset.y_test[outside])


def best_threshold(others: Scores, members: Scores) -> float:
    """The threshold above which to guess `member`, of the largest advantage on scores (n,) and (m,)."""
    from sklearn.metrics import roc_curve

    truth = np.repeat([0, 1], [len(others), len(members)])
    fpr, tpr, thresholds = roc_curve(truth, np.concatenate([others, members]), drop_intermediate=False)
    best = 1 + int(np.argmax((tpr - fpr)[1:]))  # the first is infinite
    return float(np.nextafter(thresholds[best], -np.inf))  # scikit-learn guesses at the threshold too, we above it


def advantage(members: Bools, others: Bools) -> Rate:
    """True minus false positive rate of guesses (n,), (m,), with Newcombe's interval (Stat. Med. 17, 1998, method 10).

    The two samples are independent, so it is made of their Wilson intervals; in [-1, 1].
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    counts = int(members.sum()), len(members), int(others.sum()), len(others)
    with np.errstate(all="ignore"):  # ratios, which are not asked for
        low, high = confint_proportions_2indep(*counts, method="newcomb", compare="diff")
    return Rate(float(members.mean() - others.mean()), float(low), float(high))


def _guessed(members: Bools, others: Bools) -> dict[str, Rate]:
    """Advantage, balanced accuracy and rates of one way to guess."""
    gain = advantage(members, others)
    balanced = Rate(*((1 + end) / 2 for end in gain))
    rates = {"tpr": rate(members.sum(), len(members)), "fpr": rate(others.sum(), len(others))}
    return {"advantage": gain, "balanced_accuracy": balanced} | rates


def _at_levels(members: Scores, others: Scores) -> dict[str, Rate]:
    """The largest true positive rate of any threshold with at most so many false ones."""
    return {name: sensitivity(others, members, level) for name, level in LEVELS.items() if level * len(others) >= 1}
