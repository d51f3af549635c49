"""The evaluation card of a candidate, and its way to champion: only through a card that verifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gauntlet.attacks import parse
from gauntlet.errors import GateError, ModelError
from gauntlet.evaluation.battery import Battery
from gauntlet.evaluation.provenance import code_digest
from gauntlet.gate.card import Card
from gauntlet.poisoning import AnyPoisoning
from tasks.context import Context
from tasks.gate import Evaluated
from tasks.stage import step
from tasks.store import audit, origin, registry, tracking, versions

FILE = "card.json"


@step("card")
def card(
    context: Context,
    night: str,
    candidate: Evaluated,
    champion: str | None,
    battery: Battery,
    triggers: Sequence[AnyPoisoning],
    gate: str,
    runs: Mapping[str, str],
    anchor: tuple[str, str] | None = None,
) -> Card:
    """Write down all that the night found of the candidate, in the run `night`, and link it from the version.

    `anchor` is the anchor's version and the gate's run against it.
    """
    dataset, judged = context.load(), tracking.records(gate)
    attacked = tracking.read(str(candidate.attack)).data.tags
    battery = battery.filled(attacked.get("gauntlet.access", "gradients"))
    made = Card(
        model=candidate.model,
        model_digest=registry.digest_of(candidate.model),
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        code_digest=code_digest(),
        versions=origin.versions(),
        seed=context.seed,
        fold=context.fold,
        attacks=[one.model_dump(mode="json") for one in battery.attack],
        threat_models=threat_models(battery, dataset.input_shape[-1], attacked.get("gauntlet.scenario", "")),
        triggers=[one.model_dump(mode="json") for one in triggers],
        poison_index_digests=registry.poison_digests(candidate.model),
        backdoor_scan=candidate.backdoor and scan_of(candidate.backdoor),
        measurements=tracking.records(str(candidate.attack))["measurements"],
        validity=attacked["gauntlet.validity"],
        reasons=[reason for reason in attacked.get("gauntlet.reasons", "").split("; ") if reason],
        champion=champion,
        anchor=anchor and anchor[0],
        anchor_verdict=anchor and tracking.records(anchor[1])["verdict"],
        unmet=judged.get("unmet", []),
        verdict=judged["verdict"],
        conditions=judged["conditions"],
        runs=dict(runs),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    ).sealed()
    tracking.Run(night, "").text(FILE, made.to_json())
    versions.link(candidate.model, {"gauntlet.card": f"runs:/{night}/{FILE}", "gauntlet.card_seal": made.seal})
    return made


def scan_of(run_id: str) -> dict[str, Any]:
    """What a card says of a scan for unknown backdoors."""
    kept = tracking.records(run_id)
    return {name: kept[name] for name in ("verdict", "target", "p_value", "reasons")} | {"run": run_id}


def threat_models(battery: Battery, channels: int, knowledge: str) -> list[dict[str, Any]]:
    """Norm, budgets, goal and knowledge of every adversary of a battery."""
    models = []
    for one in (parse(one) for one in battery.attack if one.adversary):
        target = getattr(one, "target", None)
        goal = "untargeted" if target is None else f"targeted at class {target}"
        facts = {"attack": one.name, "norm": one.norm, "eps": list(one.budgets(battery.eps, channels))}
        models.append(facts | {"goal": goal, "knowledge": knowledge, "knows_defense": knowledge != "transfer"})
    return models


def refusal(context: Context, night: str, model: str) -> str:
    """Why a version may not become the champion: its card does not verify, or its verdict does not allow it; or ""."""
    made = Card.model_validate_json(tracking.text(night, FILE))
    try:
        made.verify(registry.digest_of(model, fresh=True), context.load().digest)
    except (GateError, ModelError) as error:
        return str(error)
    if made.model != model:
        return f"the card is of {made.model}, not of {model}"
    return made.refusal and f"{model} is not promoted: {made.refusal}"


def check_champion(context: Context, champion: str, by_alias: bool) -> str:
    """What is odd about a champion's way to its alias, or nothing.

    Raises `GateError` when its card is missing or does not verify: an alias can be moved by hand, a card cannot. A
    champion that was named by a person (not `by_alias`) may lack one, and that is told.
    """
    text = registry.card_of(champion)
    if text is None:
        if by_alias:
            raise GateError(
                f"the champion {champion} has no evaluation card: its alias was moved by hand (--champion names one)"
            )
        return f"the champion {champion} has no evaluation card"
    made = Card.model_validate_json(text)
    made.verify(registry.digest_of(champion), context.load().digest)
    if made.model != champion:
        raise GateError(f"the champion's card is of {made.model}, not of {champion}")
    return _promotion(champion, made) if by_alias else made.refusal and f"the champion's card says: {made.refusal}"


def _promotion(champion: str, made: Card) -> str:
    """What the audit log remarks on a champion's promotion; `GateError` when it should know of one and does not."""
    known = audit.promotions(versions.name_of(champion))
    if not known or audit.promoted_elsewhere(champion):
        return f"the promotion of the champion {champion} is in no audit log of this machine"
    if not any((one["model_uri"], one.get("model_digest")) == (champion, made.model_digest) for one in known):
        what = f"the audit log has no promotion of the champion {champion} with these weights"
        raise GateError(f"{what}: its alias was moved by hand (--champion names one)")
    last = known[-1]["model_uri"]
    return "" if last == champion else f"the last promotion was of {last}: the alias was moved to {champion} by hand"


def next_fold(champion: str) -> int:
    """The subset of test images for the nights of a champion, by its card; the first where it has none."""
    text = registry.card_of(champion)
    return Card.model_validate_json(text).next_fold if text else 0


@step("promote")
@audit.decided
def promote(context: Context, night: str, model: str) -> None:
    """Make a version the champion, through its card alone; `GateError` says why not.

    The champion before keeps the alias `previous-champion`.
    """
    if reason := refusal(context, night, model):
        raise GateError(reason)
    versions.promote(model)
    tracking.Run(night, "").tags({"gauntlet.promoted": model})
