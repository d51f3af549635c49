"""The nightly gate's statistics: published examples, exact sums against enumeration, and what the gate promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from gauntlet.gate.statistics import (
    POWER,
    Gate,
    GateVerdict,
    Paired,
    _holm_rows,
    decide,
    failing,
    holm,
    images_to_pass,
    images_to_tell,
    interval,
    overall,
    passing,
    simulate,
    worse_than,
)

COUNTS = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda cells: sum(cells) > 0)


@pytest.fixture(autouse=True)
def _no_garbage_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """As statsmodels does on every call of `multipletests`, which takes 0.1 s."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)


def pair(gained: int, lost: int, n: int) -> Paired:
    """`gained` images that only the candidate has right, `lost` that only the champion has, both wrong on none."""
    return Paired(n, n - gained - lost, lost, gained, 0)


def night(rng: np.random.Generator, n: int, drop: float, churn: float, conditions: int) -> dict[str, Paired]:
    """One night's tables, drawn from a true drop and a share of images that flip besides."""
    chances = [drop + churn / 2, churn / 2, 1 - drop - churn]
    drawn = rng.multinomial(n, chances, conditions).tolist()
    return {f"condition {i}": pair(gained, lost, n) for i, (lost, gained, _) in enumerate(drawn)}


def gate(verdict: GateVerdict) -> Gate:
    return Gate(verdict, 1, 1.0, 1.0, 0.0, -1.0, 1.0, 1.0, 1.0, "")


# The fourfold table


def test_two_vectors_are_counted() -> None:
    table = Paired.of([True, True, True, False, False, False, True], [True, False, False, True, False, False, True])
    assert table == Paired(7, both=2, only_champion=2, only_candidate=1, neither=2)
    assert (table.champion, table.candidate, table.discordant) == (4 / 7, 3 / 7, 3)
    assert table.difference == pytest.approx(-1 / 7)


@pytest.mark.parametrize(
    ("champion", "candidate"),
    [([True], [True, False]), ([], []), ([[True]], [[True]]), ([1, 0], [1, 1]), ([0.5], [0.5])],
)
def test_what_is_no_pair_of_outcomes_is_refused(champion: ArrayLike, candidate: ArrayLike) -> None:
    with pytest.raises(ValueError, match="expected"):
        Paired.of(champion, candidate)


@pytest.mark.parametrize("cells", [(0, 0, 0, 0, 0), (3, 1, 1, 0, 0), (1, 2, -1, 0, 0)])
def test_counts_that_do_not_add_up_are_refused(cells: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected four counts"):
        Paired(*cells)


# Tests and intervals: published examples


@pytest.mark.parametrize(("gained", "lost", "n"), [(9, 3, 32), (1, 7, 21), (28, 25, 618), (60, 160, 10_000)])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.98])
def test_the_test_of_more_than_allowed_is_the_interval_turned_round(
    gained: int, lost: int, n: int, level: float
) -> None:
    """At the upper end of the interval the p-value is its tail (Tango 1998, section 3)."""
    high = interval(pair(gained, lost, n), level)[1]
    assert worse_than(pair(gained, lost, n), -high) == pytest.approx((1 - level) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "level", "low", "high"),
    [
        (9, 3, 32, 0.95, -0.027, 0.390),  # Tango 1998, the first example
        (0, 1, 44, 0.90, -0.096, 0.037),  # the same, cross-over trial of contact lenses
        (1, 7, 21, 0.95, -0.517, -0.026),  # Fagerland, Lydersen and Laake 2014, table V
        (28, 25, 618, 0.90, -0.0148, 0.0247),  # scoreci.mp of R's PropCIs
    ],
)
def test_tango_interval(gained: int, lost: int, n: int, level: float, low: float, high: float) -> None:
    assert interval(pair(gained, lost, n), level) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize("n", [1, 50, 1000])
def test_without_discordant_pairs_a_width_remains(n: int) -> None:
    low, high = interval(pair(0, 0, n), 0.90)
    z2 = 1.6448536269514722**2
    assert (low, high) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)))


def test_ends_of_the_range() -> None:
    assert interval(pair(0, 9, 9))[0] == -1
    assert interval(pair(9, 0, 9))[1] == 1
    with pytest.raises(ValueError, match="level"):
        interval(pair(0, 0, 1), 1.0)


@given(cells=COUNTS, level=st.floats(0.5, 0.999))
@settings(max_examples=100, deadline=None)
def test_interval_properties(cells: tuple[int, int, int, int], level: float) -> None:
    both, lost, gained, neither = cells
    table = Paired(sum(cells), both, lost, gained, neither)
    low, high = interval(table, level)
    assert -1 <= low <= table.difference <= high <= 1
    assert low < high
    swapped = interval(Paired(table.n, both, gained, lost, neither), level)
    assert swapped == pytest.approx((-high, -low), abs=1e-9)
    wider = interval(table, (1 + level) / 2)
    assert wider[0] <= low + 1e-9
    assert wider[1] >= high - 1e-9
    four = Paired(*(4 * count for count in (table.n, *cells)))
    narrower = interval(four, level)
    assert narrower[1] - narrower[0] < high - low


@pytest.mark.parametrize(("loss", "gain"), [(0.02, 0.02), (0.05, 0.01), (0.3, 0.1), (0.01, 0.0)])
def test_interval_covers(loss: float, gain: float) -> None:
    n, rng = 200, np.random.default_rng(0)
    drawn = rng.multinomial(n, [loss, gain, 1 - loss - gain], 2000)
    tables, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    covered = [low <= gain - loss <= high for low, high in (interval(pair(int(b), int(c), n)) for c, b in tables)]
    assert 0.93 <= (counts * covered).sum() / counts.sum() <= 0.99


def test_holm() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # p.adjust of R
    assert holm([]) == []
    rows = np.random.default_rng(0).random((5, 7)) ** 3
    assert _holm_rows(rows) == pytest.approx(np.array([holm(row.tolist()) for row in rows]))


# How many images: the sums against enumeration


def enumerated(n: int, loss: float, gain: float, holds: Callable[[Paired], bool]) -> float:
    """The chance of the tables for which `holds`, one by one."""
    from scipy.stats import multinomial

    tables = [(lost, gained) for lost, gained in itertools.product(range(n + 1), repeat=2) if lost + gained <= n]
    chances = {t: multinomial.pmf([*t, n - sum(t)], n, [loss, gain, 1 - loss - gain]) for t in tables}
    return float(sum(chance for (lost, gained), chance in chances.items() if holds(pair(gained, lost, n))))


@pytest.mark.parametrize(("drop", "discordant"), [(0.3, 0.4), (0.0, 0.3), (0.25, 0.25), (-0.1, 0.5)])
def test_chances_are_exact(drop: float, discordant: float) -> None:
    loss, gain = (discordant + drop) / 2, (discordant - drop) / 2
    fails = enumerated(11, loss, gain, lambda table: worse_than(table, 0.2) < 0.1 / 2)
    assert failing(drop, 11, discordant, allowed=0.2, alpha=0.1, m=2) == pytest.approx(fails, abs=1e-9)
    passes = enumerated(11, loss, gain, lambda table: interval(table, 0.8)[0] > -0.2)
    assert passing(11, discordant, drop, allowed=0.2, alpha=0.1) == pytest.approx(passes, abs=1e-9)


@pytest.mark.parametrize("n", [268, 300, 448, 1000, 3000])
@pytest.mark.parametrize("discordant", [0.01, 0.012, 0.02, 0.1])
def test_what_lost_the_allowed_seldom_passes(n: int, discordant: float) -> None:
    assert passing(n, discordant, drop=0.01) < 0.07
    assert passing(n, discordant + 0.01, drop=0.02) < 0.02


@pytest.mark.parametrize("n", [300, 1_000, 10_000])
@pytest.mark.parametrize("discordant", [0.011, 0.02, 0.05])
def test_what_lost_just_the_allowed_seldom_fails(n: int, discordant: float) -> None:
    assert failing(0.01, n, discordant) < (0.09 if n < 1_000 else 0.07)
    assert failing(0.005, n, discordant) < 0.025
    assert failing(0.01, n, discordant, m=8) < 0.02


def test_failing_grows_with_images_and_drop_and_shrinks_with_conditions() -> None:
    by_n = [failing(0.03, n, 0.05) for n in (100, 300, 1000, 3000)]
    by_drop = [failing(drop, 1000, 0.05) for drop in (0.01, 0.02, 0.03)]
    by_m = [failing(0.03, 1000, 0.05, m=m) for m in (10, 3, 1)]
    for chances in (by_n, by_drop, by_m):
        assert chances == sorted(chances)
    assert failing(0.03, 1000, 0.03) > failing(0.03, 1000, 0.1)


def test_a_true_loss_of_what_is_allowed_fails_one_night_in_twenty_whatever_the_conditions() -> None:
    for conditions in (1, 8):
        assert simulate(0.01, 10_000, 0.02, 2_000, conditions=conditions)["FAIL"] < 0.07


def test_images_to_pass() -> None:
    n = images_to_pass(0.03)
    assert n is not None
    assert passing(n, 0.03) >= POWER > passing(n - 1, 0.03)
    assert images_to_pass(0.0) == 268  # z^2 / (n + z^2) < 1 %
    assert images_to_pass(0.03, 0.005) > n  # type: ignore[operator]


def test_no_number_of_images_tells_what_is_at_the_limit() -> None:
    assert images_to_pass(0.02, drop=0.01) is None


def flips(n: int, lost: int, gained: int, conditions: int = 1) -> np.ndarray:
    """Changes of n images that are the same in every condition."""
    column = np.repeat([-1, 1, 0], [lost, gained, n - lost - gained]).astype(np.int8)
    return np.stack([column] * conditions, axis=1)


def test_the_images_that_would_tell_are_of_this_very_night() -> None:
    assert images_to_tell(flips(50, 0, 0)) == 268  # equal outcomes: as many as a pass takes
    assert images_to_tell(flips(50, 0, 0, conditions=20)) == 268
    one, few = images_to_tell(flips(100, 1, 1)), images_to_pass(0.02)
    assert one is not None
    assert few is not None
    assert one == pytest.approx(few, rel=0.15)
    independent = np.random.default_rng(0).permuted(flips(200, 2, 2, conditions=20), axis=0)
    many, together = images_to_tell(independent), images_to_tell(flips(200, 2, 2, conditions=20))
    assert many is not None
    assert together is not None
    assert many > 1.5 * together  # twenty conditions must all pass, unless they change together
    assert images_to_tell(flips(100, 6, 0)) is not None


@pytest.mark.parametrize(("drop", "n", "discordant"), [(0.02, 100, 0.01), (0.0, 0, 0.1), (0.1, 10, 1.1)])
def test_impossible_rates_are_refused(drop: float, n: int, discordant: float) -> None:
    for ask in (failing, simulate):
        with pytest.raises(ValueError, match=r"expected n > 0 and \|drop\| <= discordant <= 1"):
            ask(drop, n, discordant)


# The gate


def test_same_weights_with_other_attack_seeds_pass_in_20_of_20() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        flipped = rng.integers(0, 5, 8)  # 0 to 4 of 1,000 images, some nights all the one way
        lost = rng.integers(0, flipped + 1)
        tables = {str(i): pair(int(f - c), int(c), 1000) for i, (f, c) in enumerate(zip(flipped, lost, strict=True))}
        gates = decide(tables)
        assert overall(gates) == "PASS", [gate.reason for gate in gates.values()]


def test_up_to_four_flips_of_a_thousand_always_pass() -> None:
    tables = {f"+{b} -{c}": pair(b, c, 1000) for b in range(5) for c in range(5 - b)}
    assert overall(decide(tables)) == "PASS"
    assert decide({"pgd": pair(0, 5, 1000)})["pgd"].verdict == "INCONCLUSIVE"


def test_three_points_less_fail_in_18_of_20() -> None:
    rng = np.random.default_rng(0)
    verdicts = [overall(decide(night(rng, 1000, 0.03, 0.01, 6))) for _ in range(20)]
    assert verdicts.count("FAIL") >= 18


def test_three_points_less_in_one_of_ten_conditions_fail_too() -> None:
    assert failing(0.03, 1000, 0.04, m=10) > 0.6


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_fifty_images_are_too_few(gained: int, lost: int) -> None:
    result = decide({"clean": pair(gained, lost, 50)})["clean"]
    assert result.verdict == "INCONCLUSIVE"


def test_the_same_outcomes_on_a_thousand_images_pass_even_after_bonferroni() -> None:
    right = np.arange(1000) % 17 > 0
    tables = {str(i): Paired.of(right, right) for i in range(10)}
    assert overall(decide(tables)) == "PASS"


def test_a_gate_says_what_it_rests_on() -> None:
    table = Paired(1000, 900, 45, 12, 43)
    result = decide({"pgd 0.1": table, "clean": pair(0, 0, 1000)})["pgd 0.1"]
    assert (result.verdict, result.n) == ("FAIL", 1000)
    assert (result.champion, result.candidate) == (0.945, 0.912)
    assert result.difference == pytest.approx(-0.033)
    assert (result.low, result.high) == interval(table, 0.9)
    assert result.p_value == worse_than(table, 0.01)
    assert result.adjusted == pytest.approx(2 * result.p_value)
    assert result.reason == (
        "3.30 points lost; p = 0.0015 (Holm); 1.00 allowed; 94.50 % to 91.20 %, 45 lost and 12 gained of 1,000 images"
    )


def test_a_real_but_small_drop_passes() -> None:
    result = decide({"clean": pair(60, 120, 10_000)})["clean"]
    assert result.verdict == "PASS"
    assert result.reason.startswith("at most 0.83 points lost; 1.00 allowed")


def test_where_neither_model_is_ever_right_nothing_can_be_lost() -> None:
    gates = decide({"pgd 0.3": Paired(1000, 0, 0, 0, 1000), "clean": pair(6, 40, 1000)})
    assert (gates["pgd 0.3"].verdict, gates["pgd 0.3"].power) == ("PASS", False)
    assert gates["clean"].adjusted == gates["clean"].p_value  # Holm counts the conditions that can be lost
    with pytest.raises(ValueError, match="at least one condition"):
        overall({"pgd 0.3": gates["pgd 0.3"]})


def test_an_improvement_passes() -> None:
    result = decide({"clean": pair(60, 20, 1000)})["clean"]
    assert result.verdict == "PASS"
    assert result.reason.startswith("at least 2.58 points gained")


def test_a_drop_just_as_large_as_allowed_stays_open() -> None:
    assert decide({"clean": pair(60, 160, 10_000)})["clean"].verdict == "INCONCLUSIVE"


def test_holm_makes_failing_harder_with_more_conditions() -> None:
    doubtful = pair(6, 30, 1000)  # 2.4 points
    assert decide({"pgd": doubtful})["pgd"].verdict == "FAIL"
    others = {str(i): pair(0, 0, 1000) for i in range(7)}
    assert decide({"pgd": doubtful, **others})["pgd"].verdict == "INCONCLUSIVE"


@given(gained=st.integers(0, 40), lost=st.integers(0, 40), n=st.integers(80, 3000))
@settings(max_examples=15, deadline=None)
def test_gate_properties(gained: int, lost: int, n: int) -> None:
    result = decide({"clean": pair(gained, lost, n)})["clean"]
    assert (result.verdict == "PASS") == (result.low > -0.01)
    assert (result.verdict == "FAIL") == (result.adjusted < 0.05)
    assert "\n" not in result.reason
    assert "points" in result.reason


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["PASS", "PASS"], "PASS"),
        (["PASS", "INCONCLUSIVE"], "INCONCLUSIVE"),
        (["PASS", "INCONCLUSIVE", "FAIL"], "FAIL"),
    ],
)
def test_overall(verdicts: list[GateVerdict], verdict: GateVerdict) -> None:
    assert overall({str(i): gate(each) for i, each in enumerate(verdicts)}) == verdict


def test_nothing_compared_is_no_pass() -> None:
    assert decide({}) == {}
    with pytest.raises(ValueError, match="at least one condition"):
        overall({})


@pytest.mark.parametrize(("allowed", "alpha"), [(0.0, 0.05), (1.0, 0.05), (0.01, 0.0), (0.01, 0.5)])
def test_settings_out_of_range_are_refused(allowed: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < allowed < 1"):
        decide({"clean": pair(0, 0, 10)}, allowed, alpha)


@pytest.mark.parametrize("n", [300, 1000, 10_000])
@pytest.mark.parametrize("drop", [0.0, 0.01, 0.02, 0.03])
def test_simulation_agrees_with_the_exact_chances(n: int, drop: float) -> None:
    shares = simulate(drop, n, drop + 0.02, nights=2000)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["PASS"] == pytest.approx(passing(n, drop + 0.02, drop), abs=0.045)
    assert shares["FAIL"] == pytest.approx(failing(drop, n, drop + 0.02), abs=0.045)


def test_simulation_is_reproducible_and_judges_as_the_gate_does() -> None:
    assert simulate(0.02, 300, 0.05, 50, seed=3) == simulate(0.02, 300, 0.05, 50, seed=3)
    assert simulate(0.02, 300, 0.05, 50, seed=3) != simulate(0.02, 300, 0.05, 50, seed=4)
    rng = np.random.default_rng(5)  # the same draws, through `decide`
    nights = [overall(decide(night(rng, 1000, 0.01, 0.01, 2))) for _ in range(8)]
    shares = simulate(0.01, 1000, 0.02, 8, seed=5, conditions=2)
    assert {v: nights.count(v) / 8 for v in shares} == pytest.approx(shares)
    assert 0 < shares["FAIL"] < 1


def test_false_alarms_stay_below_the_level_over_many_conditions() -> None:
    assert simulate(0.0, 1000, 0.05, nights=2000, conditions=8)["FAIL"] < 0.06
