"""The evaluation card verifies against the model and data that it is of, and against nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gauntlet.errors import GateError, SettingError
from gauntlet.gate.card import Card
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


def test_a_scan_is_sealed_and_a_card_from_before_there_was_one_still_verifies(card: Card) -> None:
    old = {name: value for name, value in json.loads(card.to_json()).items() if name != "backdoor_scan"}
    Card.model_validate(old).verify("a" * 64, "d" * 64)
    scanned = card.model_copy(update={"backdoor_scan": {"verdict": "BACKDOORED"}}).sealed()
    scanned.verify("a" * 64, "d" * 64)
    touched = scanned.model_copy(update={"backdoor_scan": {"verdict": "CLEAN"}})
    for one in (touched, scanned.model_copy(update={"backdoor_scan": None})):
        with pytest.raises(GateError, match="seal is broken"):
            one.verify("a" * 64, "d" * 64)


def test_a_card_that_was_touched_is_refused(card: Card) -> None:
    with pytest.raises(GateError, match="changed after it was made"):
        card.model_copy(update={"verdict": "FAIL"}).verify("a" * 64, "d" * 64)
    with pytest.raises(GateError, match="changed after it was made"):
        card.model_copy(update={"seal": ""}).verify("a" * 64, "d" * 64)


REFUSALS = [
    ({}, ""),
    ({"champion": None, "verdict": "INCONCLUSIVE"}, ""),
    ({"champion": None, "verdict": "INCONCLUSIVE", "unmet": ["clean at 95 %"]}, "clean at 95 %"),
    ({"champion": None, "verdict": "INVALID"}, "the night is INVALID"),
    ({"verdict": "INCONCLUSIVE"}, "the night is INCONCLUSIVE"),
    ({"verdict": "FAIL"}, "the night is FAIL"),
    ({"validity": "SUSPECT"}, "its evaluation is SUSPECT"),
    ({"anchor": "models:/m/0", "anchor_verdict": "PASS"}, ""),
    ({"anchor": "models:/m/0", "anchor_verdict": "INCONCLUSIVE"}, "against the anchor models:/m/0"),
    ({"anchor": "models:/m/0", "anchor_verdict": "FAIL"}, "the gate says FAIL"),
]


@pytest.mark.parametrize(("facts", "reason"), REFUSALS)
def test_only_what_passed_twice_or_came_first_may_be_champion(card: Card, facts: dict[str, Any], reason: str) -> None:
    made = card.model_copy(update={"champion": "models:/m/1", "verdict": "PASS"} | facts)
    assert (reason in made.refusal) if reason else made.refusal == ""


@pytest.mark.parametrize("variable", ["GAUNTLET_VERIFY_KEY", "GAUNTLET_SIGNING_KEY"])
def test_a_key_that_is_set_to_nothing_is_no_safety(card: Card, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, " ")
    with pytest.raises(SettingError, match=f"{variable}: is set, but empty"):
        card.sealed().verify("a" * 64, "d" * 64)


# --- signatures ---------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A key pair in PEM files, named by the environment; and another pair's public key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    mine, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    private = mine.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private.pem").write_bytes(private)
    for name, key in {"public": mine, "other": other}.items():
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pem").write_bytes(public)
    monkeypatch.setenv("GAUNTLET_SIGNING_KEY", str(tmp_path / "private.pem"))
    monkeypatch.setenv("GAUNTLET_VERIFY_KEY", str(tmp_path / "public.pem"))
    return monkeypatch


def test_a_card_is_signed_by_who_has_the_key(card: Card, keys: pytest.MonkeyPatch, tmp_path: Path) -> None:
    signed = Card.model_validate_json(card.sealed().to_json())
    signed.verify("a" * 64, "d" * 64)
    with pytest.raises(GateError, match="not signed"):
        card.verify("a" * 64, "d" * 64)
    keys.setenv("GAUNTLET_VERIFY_KEY", str(tmp_path / "other.pem"))
    with pytest.raises(GateError, match="not by the key"):
        signed.verify("a" * 64, "d" * 64)


def test_a_forged_card_has_no_signature(card: Card, keys: pytest.MonkeyPatch) -> None:
    signed = card.sealed()
    keys.delenv("GAUNTLET_SIGNING_KEY")
    forged = signed.model_copy(update={"validity": "SUSPECT"}).sealed()
    for signature in ("", signed.signature, "no hex"):
        with pytest.raises(GateError, match="sign"):
            forged.model_copy(update={"signature": signature}).verify("a" * 64, "d" * 64)


@pytest.mark.parametrize("content", [b"", b"no key", None])
def test_a_key_that_is_none_is_one_line(
    content: bytes | None, card: Card, keys: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_bytes(content)
    keys.setenv("GAUNTLET_SIGNING_KEY", str(path))
    with pytest.raises(SettingError, match=r"GAUNTLET_SIGNING_KEY: .*broken.pem is no readable PEM key"):
        card.sealed()


def test_a_champion_chosen_among_two_is_judged_on_other_images_next(card: Card) -> None:
    assert card.next_fold == 0  # the first champion was compared with nobody
    assert card.model_copy(update={"champion": "models:/m/2"}).next_fold == 1
    assert card.model_copy(update={"champion": "models:/m/2", "fold": 4}).next_fold == 5
    assert card.model_copy(update={"champion": card.model, "fold": 4}).next_fold == 4  # with itself: nothing was chosen
