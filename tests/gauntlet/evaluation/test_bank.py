"""The replay bank: what once fooled a model is tried again, at budgets that hold it, on the images that it is of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.evaluation.bank import Bank
from gauntlet.evaluation.battery import Battery, Job, run
from gauntlet.evaluation.outcome import Attacked
from gauntlet.models.classifier import CompiledClassifier

N, SHAPE = 32, (28, 28, 1)
EVERY = np.arange(N)


@pytest.fixture(scope="module")
def job(classifier: CompiledClassifier, digits: Dataset) -> Job:
    x, y = digits.x_test[:N], digits.y_test[:N]
    return Job(classifier, x, y, classifier.labels(x), seed=0, keep=None)


@pytest.fixture(scope="module")
def results(job: Job) -> list[Attacked]:
    return run(Battery(attack=["noise-uniform", "pgd:max_iter=10"], eps=(0.05, 0.15), n=N), job, lambda _: EVERY)


@pytest.fixture(scope="module")
def bank(results: list[Attacked]) -> Bank:
    return Bank.gathered(results, SHAPE, Bank.empty(SHAPE))


def test_it_holds_what_adversaries_broke(bank: Bank, results: list[Attacked]) -> None:
    assert len(bank) == sum(int(r.broken.sum()) for r in results if r.attack.adversary) > 0
    assert set(bank.attack) == {"pgd"}


def test_nothing_is_kept_twice(bank: Bank, results: list[Attacked]) -> None:
    assert len(Bank.gathered(results, SHAPE, bank)) == 0
    assert len(Bank.joined([bank, bank])) == len(bank)


def test_on_the_same_model_all_of_it_works_again(bank: Bank, job: Job, results: list[Attacked]) -> None:
    for replayed in bank.replay(job, EVERY, [("inf", 0.05), ("inf", 0.15)]):
        pgd = next(r for r in results if r.attack.name == "pgd" and r.eps == replayed.eps)
        assert not replayed.robust[~pgd.robust].any()
        assert replayed.linf.max() <= replayed.eps + 1e-5


def test_an_image_beyond_the_budget_is_not_counted(bank: Bank, job: Job) -> None:
    (tiny,) = bank.replay(job, EVERY, [("inf", 0.001)])
    np.testing.assert_array_equal(tiny.robust, job.clean == job.y)


def test_it_comes_back_from_its_file_and_a_damaged_one_is_refused(bank: Bank) -> None:
    import io

    arrays = dict(np.load(io.BytesIO(bank.to_bytes())))
    assert len(Bank.from_arrays(arrays, SHAPE)) == len(bank)
    with pytest.raises(SettingError, match="damaged"):
        Bank.from_arrays(arrays | {"images": arrays["images"] + 0.01}, SHAPE)


def test_an_empty_bank_does_nothing(job: Job) -> None:
    (nothing,) = Bank.empty(SHAPE).replay(replace(job, keep=4), EVERY, [("2", 1.0)])
    np.testing.assert_array_equal(nothing.robust, job.clean == job.y)
