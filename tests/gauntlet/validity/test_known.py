"""The frozen networks: attacks and certificates agree with what is proven, and a wrong one of either is noticed."""

from __future__ import annotations

import pytest

from gauntlet.attacks import Pgd
from gauntlet.certify import Exact
from gauntlet.evaluation.battery import Battery
from gauntlet.validity import known

every_network = pytest.mark.parametrize("name", known.NAMES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "dense")) for name in known.NAMES]
)
def test_attacks_and_certificates_agree_with_what_is_proven(name: str) -> None:
    assert known.wrong(name) == []


@every_network
def test_each_budget_breaks_some_images_and_leaves_some(name: str) -> None:
    truth = known.known(name)
    shares = truth.certified.mean(axis=1)
    assert len(truth.y) >= 90
    assert (truth.target.labels(truth.x) == truth.y).all()
    assert (shares[:-1] > shares[1:]).all()
    assert 0.1 < shares[-1] < shares[0] < 0.9
    assert not (truth.certified[1:] & ~truth.certified[:-1]).any()  # proven at a budget is proven at every smaller one


def test_a_weak_battery_is_named() -> None:
    truth = known.known("dense")
    lines = known.wrong("dense", tried=Battery(attack=(Pgd(max_iter=1, num_random_init=0),), eps=truth.eps[1:2]))
    assert len(lines) == 1
    assert "breakable images of dense" in lines[0]


def test_the_exact_status_is_found_again() -> None:
    truth = known.known("dense")
    status = Exact().decide(truth.target, truth.x[:12], truth.y[:12], truth.eps[1], 0)
    assert (status.proven == truth.certified[1, :12]).all()
    assert (status.broken == ~truth.certified[1, :12]).all()


def test_a_certificate_with_a_wrong_sign_is_noticed() -> None:
    assert known.wrong_sign() == []
    assert list(known.disproved(known.known("dense"), known.WrongSign()))
