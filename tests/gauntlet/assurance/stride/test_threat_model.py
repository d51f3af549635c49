"""The threat model: what a file may say, which status follows, what is shown, and the project's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from gauntlet.assurance.stride import pytests
from gauntlet.assurance.stride.evidence import Evidence, Ran, setting
from gauntlet.assurance.stride.threat_model import (
    STRIDE,
    Check,
    CommandCheck,
    SettingCheck,
    StrideModel,
    TestCheck,
    load,
)
from gauntlet.errors import SettingError
from gauntlet.report import threat_report
from gauntlet.state import PROJECT_ROOT

TODAY = date(2026, 11, 21)
SETTING = {"kind": "setting", "file": "ours.py", "key": "LIMIT", "at_most": 3}
ACCEPTED = {"reason": "everybody may know it", "date": "2026-01-01", "review_by": "2026-12-31"}
CHECKS: TypeAdapter[Check] = TypeAdapter(Check)


def threat(**changes: Any) -> dict[str, Any]:
    """A threat as it stands in a file."""
    usual = {
        "id": "T-01",
        "title": "Weights are swapped",
        "stride": "tampering",
        "life": "registry",
        "adversary": ["insider"],
        "entry": ["store"],
        "assets": ["weights"],
        "what": "Others take their place.",
        "mitigation": "A digest.",
        "status": "enforced",
        "checks": [SETTING],
    }
    return usual | changes


def content(*threats: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole file."""
    named: dict[str, Any] = {"assets": {"weights": "of it"}, "entry_points": {"store": "MLflow"}}
    named |= {"title": "Ours", "adversaries": {"insider": "may write"}, "threats": list(threats or [threat()])}
    return named | changes


def written(folder: Path, what: Any) -> Path:
    """The same, as a file."""
    path = folder / "threats.yaml"
    path.write_text(what if isinstance(what, str) else yaml.safe_dump(what, sort_keys=False))
    return path


def check(**fields: Any) -> Check:
    """A check as a file spells it."""
    return CHECKS.validate_python(fields)


def no_runs(_: Mapping[str, str]) -> Ran | None:
    """An empty store."""
    return None


# What a file may say

WRONG: dict[str, tuple[Any, str]] = {
    "no mapping": ([], "threats.yaml: "),
    "no yaml": ("a: [", "not YAML"),
    "no date of a calendar": ("a: 2026-99-99", "not YAML"),
    "no text": ("\x00", "not YAML"),
    "deep": ("[" * 5_000, "not YAML"),
    "unknown field": (content(threat(severity="high")), "T-01.severity"),
    "unknown field of a check": (content(threat(checks=[SETTING | {"colour": 1}])), "T-01.checks.0.setting.colour"),
    "unknown kind": (content(threat(checks=[{"kind": "prayer"}])), "T-01.checks.0"),
    "no technique of ATLAS": (content(threat(atlas=["T0020"])), "T-01.atlas.0"),
    "no class of NIST": (content(threat(nist=["AML.T0020"])), "T-01.nist.0"),
    "unknown stride": (content(threat(stride="evil")), "T-01.stride"),
    "second id": (content(threat(), threat()), "two threats are called T-01"),
    "no id": (content(threat(id="first")), "first.id"),
    "unknown asset": (content(threat(assets=["crown"])), "T-01.assets: unknown 'crown', one of weights"),
    "unknown adversary": (content(threat(adversary=["god"])), "T-01.adversary: unknown 'god', one of insider"),
    "unknown entry point": (content(threat(entry=["roof"])), "T-01.entry: unknown 'roof', one of store"),
    "enforced without a check": (content(threat(checks=[])), "enforced needs a check"),
    "open with a check": (content(threat(status="open")), "open means that nothing is checked"),
    "accepted without a reason": (content(threat(status="accepted")), "accepted (reason, date, review_by)"),
    "accepted without a date": (
        content(threat(status="accepted", accepted={"reason": ACCEPTED["reason"]})),
        "T-01.accepted.date: Field required",
    ),
    "reviewed before it was accepted": (
        content(threat(status="accepted", accepted=ACCEPTED | {"review_by": "2025-01-01"})),
        "review_by 2025-01-01 is not after",
    ),
    "a reason for what is not accepted": (content(threat(accepted=ACCEPTED)), "need each other"),
    "a metric without a bound": (
        content(threat(checks=[{"kind": "metric", "stage": "attack", "metric": "robust/accuracy"}])),
        "a metric needs a bound",
    ),
    "a setting of nothing": (content(threat(checks=[{"kind": "setting", "equals": 1}])), "an attribute, or a file"),
    "a setting without a value": (
        content(threat(checks=[{"kind": "setting", "attribute": "gauntlet.state.VARIABLE"}])),
        "needs equals",
    ),
    "an attribute of others": (
        content(threat(checks=[{"kind": "setting", "attribute": "os.environ", "equals": 1}])),
        "attribute",
    ),
    "a file elsewhere": (content(threat(checks=[SETTING | {"file": "../secret.py"}])), "T-01.checks.0.setting.file"),
    "a test elsewhere": (content(threat(checks=[{"kind": "test", "test": "tests/../x.py"}])), "T-01.checks.0"),
    "an option for a test": (content(threat(checks=[{"kind": "test", "test": "--pdb"}])), "T-01.checks.0"),
    "a command of others": (
        content(threat(checks=[{"kind": "command", "command": ["rm", "-r", "x"]}])),
        "a command is python -m",
    ),
    "code as a command": (
        content(threat(checks=[{"kind": "command", "command": ["python", "-c", "1"]}])),
        "a command is python -m",
    ),
    "a filter with a quote": (
        content(threat(checks=[{"kind": "tag", "tag": "a", "stage": "x' or '1"}])),
        "T-01.checks.0.tag.stage",
    ),
}


@pytest.mark.parametrize(("what", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_line_with_file_and_field(what: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        load(written(tmp_path, what))
    assert says in str(caught.value)
    assert str(caught.value).startswith("threats.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_or_endless_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(SettingError, match="larger than"):
        load(written(tmp_path, "a" * 2_000_000))


# What status follows


@pytest.mark.parametrize(
    ("claimed", "outcomes", "found"),
    [
        ("enforced", ["passed", "passed"], "enforced"),
        ("enforced", ["passed", "missing"], "partial"),
        ("enforced", ["missing"], "partial"),
        ("enforced", ["passed", "missing", "failed"], "failed"),
        ("partial", ["passed"], "partial"),
        ("partial", ["failed"], "failed"),
        ("open", [], "open"),
        ("accepted", [], "accepted"),
        ("accepted", ["failed"], "accepted"),
    ],
)
def test_the_status_found_follows_from_the_checks(claimed: str, outcomes: list[str], found: str) -> None:
    extra = {"accepted": {"accepted": ACCEPTED}, "open": {"checks": []}}.get(claimed, {})
    (one,) = StrideModel.model_validate(content(threat(status=claimed, **extra))).threats
    assert one.found(outcomes, TODAY) == found


def judged(claimed: str, outcome: str, today: date = TODAY) -> threat_report.Judged:
    extra = {"accepted": ACCEPTED} if claimed == "accepted" else {}
    model = StrideModel.model_validate(content(threat(status=claimed, **extra)))
    evidence = {c: Evidence(c.kind, str(c), outcome, "is '4'") for c in model.checks()}  # type: ignore[arg-type]
    return threat_report.assess(model, evidence, today)[0]


@pytest.mark.parametrize(
    ("claimed", "outcome", "usual", "strict"),
    [
        ("enforced", "passed", False, False),
        ("enforced", "failed", True, True),
        ("enforced", "missing", False, True),
        ("partial", "failed", False, True),
        ("partial", "missing", False, True),
        ("accepted", "failed", False, False),
    ],
)
def test_the_gate_fails_on_what_is_claimed_and_refuted(claimed: str, outcome: str, usual: bool, strict: bool) -> None:
    one = judged(claimed, outcome)
    assert (bool(one.problems(False)), bool(one.problems(True))) == (usual, strict)
    assert all("T-01" in line and "LIMIT ≤ 3" in line for line in one.problems(True))


def test_an_acceptance_that_is_over_is_open_and_fails_a_strict_gate() -> None:
    one = judged("accepted", "passed", date(2027, 1, 1))
    assert one.found == "open"
    assert one.problems(False) == []
    assert one.problems(True) == ["T-01 was accepted until 2026-12-31, which is over"]


# What is shown

EVIL = "<script>|`x`"


def shown() -> tuple[StrideModel, list[threat_report.Judged]]:
    accepted = threat(id="T-02", status="accepted", accepted=ACCEPTED, stride="spoofing", checks=[])
    model = StrideModel.model_validate(content(threat(title=EVIL, what=EVIL), accepted))
    evidence = {c: Evidence(c.kind, EVIL, "failed", EVIL, "#/experiments/1/runs/2") for c in model.checks()}
    return model, threat_report.assess(model, evidence, TODAY)


def test_pages_show_every_threat_and_escape_what_they_show() -> None:
    model, evidence = shown()
    page = threat_report.to_html(model, evidence, {"commit": EVIL}, [EVIL])
    text = threat_report.to_markdown(model, evidence, {"commit": EVIL}, [EVIL])
    assert "<script" not in page
    assert "<script" not in text
    assert "http" not in page
    for said in ("T-01", "T-02", "everybody may know it", "2026-12-31", "#/experiments/1/runs/2"):
        assert said in page
        assert said in text
    rows = [line for line in text.splitlines() if line.startswith("| T-")]
    assert len(rows) == 2
    assert all(line.replace("\\|", "").count("|") == 9 for line in rows)


def test_the_summary_counts_threats_by_class_and_status() -> None:
    _, evidence = shown()
    rows = {row[0]: row[1:] for row in threat_report.matrix(evidence)}
    assert list(rows) == [*STRIDE, "all"]
    assert rows["tampering"] == [0, 0, 0, 0, 1, 1]
    assert rows["spoofing"] == [0, 0, 1, 0, 0, 1]
    assert rows["all"] == [0, 0, 1, 0, 1, 2]
    assert [one["found"] for one in threat_report.to_json(evidence)] == ["failed", "accepted"]


# The project's own


def own() -> StrideModel:
    return load(PROJECT_ROOT / "threat_model.yaml")


def test_the_projects_own_covers_every_class_and_every_name() -> None:
    model = own()
    assert {one.stride for one in model.threats} == set(STRIDE)
    assert {one.life for one in model.threats} == {"data", "training", "registry", "evaluation", "inference", "CI"}
    for named, field in ((model.assets, "assets"), (model.entry_points, "entry"), (model.adversaries, "adversary")):
        assert {name for one in model.threats for name in getattr(one, field)} == set(named)


def test_what_the_projects_own_refers_to_is_there() -> None:
    """Every test, setting and command; a reference to what was renamed would be missing evidence for ever."""
    missing = []
    for one in own().checks():
        if isinstance(one, TestCheck) and not pytests.exists(PROJECT_ROOT, one.test):
            missing.append(one.test)
        if isinstance(one, SettingCheck) and (evidence := setting(one)).outcome == "missing":
            missing.append(f"{one.name}: {evidence.detail}")
        if isinstance(one, CommandCheck) and importlib.util.find_spec(one.module) is None:
            missing.append(one.module)
    assert not missing, "not there (yet):\n" + "\n".join(missing)


def test_every_package_is_pinned() -> None:
    """To one version: what is installed tomorrow is what was tested today."""
    for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt"):
        lines = [line.partition("#")[0].strip() for line in (PROJECT_ROOT / name).read_text().splitlines()]
        pins = [line for line in lines if line and not line.startswith("-r ")]
        assert pins
        assert [line for line in pins if line.count("==") != 1 or "*" in line] == []
    assert "-c constraints.txt" in (PROJECT_ROOT / "Makefile").read_text()


def test_the_documentation_has_the_identifiers_of_every_threat() -> None:
    text = (PROJECT_ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    for one in load(PROJECT_ROOT / "threat_model.yaml").threats:
        assert f"| {one.id} | {one.title} | {', '.join(one.atlas)} | {', '.join(one.nist)} |" in text


def test_reports_say_what_others_call_a_threat() -> None:
    model = StrideModel.model_validate(content(threat(atlas=["AML.T0018.000"], nist=["NISTAML.051"], checks=[SETTING])))
    judged = [threat_report.Judged(model.threats[0], "partial", ())]
    assert "AML.T0018.000, NISTAML.051" in threat_report.to_html(model, judged, {})
    rows = threat_report.to_markdown(model, judged, {}).replace("\\", "")
    assert "| AML.T0018.000, NISTAML.051 |" in rows
    assert threat_report.to_json(judged)[0]["atlas"] == ["AML.T0018.000"]
