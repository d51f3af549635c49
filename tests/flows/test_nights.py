"""A list of models: what an entry may say, how the nights are run, and what they come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows import nights
from flows.night import NightlyConfig
from flows.nights import check, listed
from gauntlet.errors import SettingError
from gauntlet.state import PROJECT_ROOT
from tasks.nights import Ended, Judged, judged, page, reason, worst
from tasks.store import connection, tracking


def config(folder: Path, text: str, **more: Any) -> NightlyConfig:
    """A list of models, written to a file."""
    path = folder / "models.yaml"
    path.write_text(text)
    return NightlyConfig(models=str(path), **more)


def test_an_entry_has_the_settings_of_the_command_but_for_its_own(tmp_path: Path) -> None:
    text = "- {name: one, n: 50, attack: [fgsm, 'pgd:max_iter=3'], eps: [8/255]}\n- {name: two, dataset: mnist}\n"
    one, two = listed(config(tmp_path, text, n=70, at_once=2, epochs=5))
    assert (one.name, one.n, one.epochs, one.dataset, one.eps) == ("one", 50, 5, "digits", (8 / 255,))
    assert [attack.name for attack in one.attack] == ["fgsm", "pgd"]
    assert (two.name, two.n, two.dataset, two.attack) == ("two", 70, "mnist", NightlyConfig().attack)
    assert (one.models, one.at_once) == (None, 1)


def test_a_night_is_the_same_when_it_comes_out_of_its_process(tmp_path: Path) -> None:
    text = "- {name: one, attack: ['pgd:max_iter=3'], detector: gan-discriminator, eps: [8/255]}\n"
    (one,) = listed(config(tmp_path, text))
    assert NightlyConfig.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize(
    ("text", "says"),
    {
        "no list": ("name: one", "models.yaml: no list of models"),
        "empty": ("", "models.yaml: no list of models"),
        "no yaml": ("- {name", "models.yaml: not YAML"),
        "no settings": ("- one", "models.yaml: entry 1: no settings with a name"),
        "no name": ("- {n: 5}", "models.yaml: entry 1: no settings with a name"),
        "unknown": ("- {name: one}\n- {name: two, m: 5}", "models.yaml: entry 2 (two): m: Extra inputs"),
        "no number": ("- {name: one, n: many}", "models.yaml: entry 1 (one): n: "),
        "no attack": ("- {name: one, attack: [fgms]}", "models.yaml: entry 1 (one): attack: unknown attack 'fgms'"),
        "no such name": ("- {name: One/..}", "models.yaml: entry 1 (One/..): name: "),
        "a list in a list": ("- {name: one, models: x.yaml}", "models.yaml: entry 1 (one): models: is no setting"),
        "a store of its own": ("- {name: one, tracking_uri: x}", "entry 1 (one): tracking_uri: is no setting"),
        "a key of another kind": ("- {name: one, 5: 6}", "models.yaml: entry 1 (one): 5: is no setting"),
        "a name twice": ("- {name: one}\n- {name: one}", "models.yaml: entry 2 (one): the name is taken"),
        "a key twice": ("- {name: one, n: 5, n: 6}", "models.yaml: not YAML: 'n' is given twice"),
        "no such data": ("- {name: one}\n- {name: two, dataset: nowhere.npz}", "models.yaml: entry 2 (two): "),
        "too many images": ("- {name: one, n: 5000}", "models.yaml: entry 1 (one): n: 5,000 images"),
        "no floor": ("- {name: one, floor: [clean]}", "models.yaml: entry 1 (one): --floor: 'clean' is no"),
    }.values(),
)
def test_a_bad_list_is_one_line_that_names_the_entry(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingError if "nowhere" not in text else Exception) as caught:
        check(config(tmp_path, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_one_model_has_is_not_said_of_a_list(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--champion: is said of a whole list"):
        check(config(tmp_path, "- {name: one}", champion="models:/x/1"))


def test_a_list_that_is_not_there_is_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.nightly", "--models", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'none.yaml'}: cannot be read: no such file")
    assert done.stderr.count("\n") == 1


# --- how they are run ---------------------------------------------------------------------------------------


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[subprocess.Popen[bytes]]:
    """Nights whose processes do what their champion says instead; every process that was started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(night: NightlyConfig) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", str(night.champion)]))
        return started[-1]

    monkeypatch.setattr(nights, "_start", start)
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path))
    return started


def night(name: str, code: str) -> NightlyConfig:
    return NightlyConfig(name=name, champion=code)


@pytest.mark.usefixtures("sleepers")
def test_one_that_fails_stops_no_other() -> None:
    kill = "import os\nos.kill(os.getpid(), 9)"
    ended = list(nights.run([night("a", kill), night("b", "exit(3)"), night("c", "pass"), night("d", "exit(2)")], 1))
    assert [(one.name, one.status) for one in ended] == [("a", -9), ("b", 3), ("c", 0), ("d", 2)]


@pytest.mark.usefixtures("sleepers")
def test_no_more_run_at_a_time_than_allowed(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    code = f"""
import os, pathlib, time
folder = pathlib.Path({str(marks)!r})
mine = folder / str(os.getpid())
mine.touch()
time.sleep(0.5)
seen = len(list(folder.iterdir()))
mine.unlink()
exit(seen)
"""
    seen = [one.status for one in nights.run([night(name, code) for name in "abcde"], 2)]
    assert max(seen) == 2
    assert len(seen) == 5


def test_those_that_go_on_are_stopped_with_the_command(sleepers: list[Any]) -> None:
    going = nights.run([night("a", "exit(1)"), night("b", "import time; time.sleep(600)")], 2)
    begun = time.monotonic()
    assert next(going).name == "a"
    going.close()
    assert sleepers[1].returncode == -15
    assert time.monotonic() - begun < 60


# --- what they come to --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "status"),
    [([0, 0], 0), ([0, 3], 3), ([3, 2, 0], 2), ([2, 1, 3], 1), ([0, -9], 1), ([3, 120], 1)],
)
def test_the_worst_decides(statuses: list[int], status: int) -> None:
    ended = [Ended(name=str(place), status=each, seconds=1, log="") for place, each in enumerate(statuses)]
    assert worst(ended) == status


def test_why_a_night_without_a_verdict_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("failed: first\nerror: x: no such model (look)\nlast words\n")
    told = {"name": "one", "seconds": 1.0, "log": str(log)}
    assert reason(Ended(status=2, **told)) == "x: no such model (look)"
    assert reason(Ended(status=-9, **told)) == "killed by signal 9"
    assert reason(Ended(status=1, **told | {"log": str(tmp_path / "none")})).startswith("exit status 1, see ")


@pytest.fixture
def parent(tmp_path: Path) -> str:
    """The run of a list whose first night passed and whose second ended after it was judged."""
    from tasks.context import Context

    uri = connection.connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    where = Context(dataset="digits", tracking_uri=uri)
    with tracking.run("nights", where, None, name="nights") as opened:
        for name in ("one", "two"):
            with tracking.run("nightly", where.below(opened.id), None, name=name) as run:
                run.json("metrics.json", {"metrics": {}, "measurements": [], "reasons": ["because"]})
                run.tags({"gauntlet.verdict": "PASS"})
    return opened.id


def test_a_night_is_found_by_its_name_and_its_verdict_must_fit_how_it_ended(parent: str) -> None:
    one, two, three = (Ended(name=n, status=s, seconds=6, log="") for n, s in (("one", 0), ("two", -9), ("x", 0)))
    found = [judged(parent, each) for each in (one, two, three)]
    assert [each.verdict for each in found] == ["PASS", "FAILED", "FAILED"]
    assert found[0].reasons == ("because",)
    assert found[1].reasons == ("killed by signal 9",)
    assert found[0].run_id != found[1].run_id
    assert found[2].run_id is None
    assert found[0].line.split() == ["PASS", "one", "0.1", "min", "because"]


def test_the_page_has_a_row_a_model_and_the_worst_verdict(parent: str) -> None:
    rows = [
        Judged(name="good", status=0, seconds=60, log="", verdict="PASS"),
        Judged(name="bad", status=3, seconds=60, log="", verdict="INCONCLUSIVE", reasons=("too few images",)),
    ]
    page.fn(parent, rows)
    html = tracking.text(parent, "report.html")
    assert "Nightlies: 1 PASS, 1 INCONCLUSIVE" in html
    assert 'class="inconclusive"' in html
    assert "bad: too few images" in html
    assert [row["name"] for row in tracking.records(parent)["nights"]] == ["good", "bad"]
    assert tracking.read(parent).data.metrics == {"nights/PASS": 1, "nights/INCONCLUSIVE": 1}


@pytest.mark.slow
def test_a_list_as_a_person_runs_it(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "safe.py").write_text("print()\n")
    path = tmp_path / "models.yaml"
    path.write_text("- {name: trained, role: small, promote: true}\n- {name: absent, candidate: models:/nobody/1}\n")
    words = ["--models", str(path), "--at-once", "2", "--epochs", "2", "--n", "60", "--attack", "fgsm", "--eps", "0.1"]
    words += ["--no-canaries", "--scan-path", str(tmp_path / "code")]
    told = os.environ | {"GAUNTLET_STATE": str(tmp_path / "state")}
    told.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "flows.nightly", *words]
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=told, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 1, done.stderr
    lines = {line.split()[1]: line for line in done.stderr.splitlines() if line.startswith(("INVALID", "FAILED"))}
    assert lines["trained"].startswith("INVALID")
    assert lines["absent"].startswith("FAILED")
    assert "nobody" in lines["absent"]
    assert done.stderr.splitlines()[-1] in (
        "failed: of 2 nights 1 INVALID, 1 FAILED",
        "failed: of 2 nights 1 FAILED, 1 INVALID",
    )
    html = Path(next(line for line in done.stderr.splitlines() if line.startswith("Report: "))[8:]).read_text()
    assert "trained" in html
    assert "absent" in html
    assert json.loads(Path(tmp_path / "state" / "audit.jsonl").read_text().splitlines()[0])
