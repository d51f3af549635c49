"""The evaluation card verifies against the model and data that it is of, and against nothing else."""

from __future__ import annotations

import pytest

from gauntlet.card import Card
from gauntlet.errors import GateError
from gauntlet.measurement import Measurement


@pytest.fixture
def card() -> Card:
    measured = Measurement(model="m", condition="clean", value=0.9, low=0.8, high=0.95, n=100)
    facts = {"model": "models:/m/1", "model_digest": "a" * 64, "dataset": "digits", "dataset_digest": "d" * 64}
    facts |= {"code_digest": "c" * 64, "created": "2026-01-01T02:00:00Z"}
    return Card(
        **facts,
        versions={"numpy": "2"},
        seed=0,
        attacks=[],
        threat_models=[],
        measurements=[measured],
        validity="VALID",
        verdict="PASS",
    ).sealed()


def test_a_card_verifies_and_survives_being_stored(card: Card) -> None:
    card.verify("a" * 64, "d" * 64)
    Card.model_validate_json(card.to_json()).verify("a" * 64, "d" * 64)


@pytest.mark.parametrize(
    ("model", "data", "reason"), [("b" * 64, "d" * 64, "other weights"), ("a" * 64, "e" * 64, "other data")]
)
def test_a_card_of_something_else_is_refused(card: Card, model: str, data: str, reason: str) -> None:
    with pytest.raises(GateError, match=reason):
        card.verify(model, data)


def test_a_card_that_was_touched_is_refused(card: Card) -> None:
    with pytest.raises(GateError, match="changed after it was made"):
        card.model_copy(update={"verdict": "FAIL"}).verify("a" * 64, "d" * 64)
    with pytest.raises(GateError, match="changed after it was made"):
        card.model_copy(update={"seal": ""}).verify("a" * 64, "d" * 64)


@pytest.mark.parametrize(
    ("verdict", "champion", "validity", "may"),
    [
        ("PASS", "models:/m/0", "VALID", True),
        ("INCONCLUSIVE", None, "VALID", True),
        ("INCONCLUSIVE", "models:/m/0", "VALID", False),
        ("FAIL", "models:/m/0", "VALID", False),
        ("INVALID", None, "VALID", False),
        ("PASS", "models:/m/0", "SUSPECT", False),
    ],
)
def test_only_what_passed_or_came_first_may_be_champion(
    card: Card, verdict: str, champion: str | None, validity: str, may: bool
) -> None:
    judged = {"verdict": verdict, "champion": champion, "validity": validity}
    assert card.model_copy(update=judged).may_be_champion is may
