"""The command line: what a person types, and what a script reads."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli
from flows.command import Terminated, declared, main
from tests.processes import typed

ROOT = Path(__file__).parents[2]
FLOWS = ("suite", "train", "attack", "poison", "defend", "detect", "scan", "reproduce", "nightly")
FLOWS += ("privacy", "datascan", "backdoor")


def run(*arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """Run a flow as a person would."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def performed(words: list[str]) -> int:
    """The status of `gauntlet scan` in this process."""
    importlib.import_module("flows.scan")
    command = declared("flows.scan")
    assert command is not None
    with pytest.MonkeyPatch.context() as told:
        told.setattr("signal.signal", lambda *_: None)
        told.setattr("gc.freeze", lambda: None)
        told.setattr("gc.set_threshold", lambda *_: None)
        with pytest.raises(SystemExit) as done:
            main(command, words)
    return int(str(done.value.code))


def test_help_needs_none_of_the_slow_imports() -> None:
    for flow, done in zip(FLOWS, typed([[f"flows.{flow}", "--help"] for flow in FLOWS]), strict=True):
        assert done.status == 0, (flow, done.err)
        assert "--tracking-uri" in done.out, flow
        assert not {"prefect", "mlflow", "tensorflow", "keras", "art", "pandas", "sklearn"} & done.modules, flow


@pytest.mark.parametrize(
    "shown",
    [
        "--n INT",
        "--eps FLOAT",
        "--cascade {true,false}",
        "--attack NAME:KEY=VALUE",
        "--certify NAME:KEY=VALUE",
        "--precision {auto,float32,bfloat16}",
        "--model MODEL",
    ],
)
def test_help_shows_what_a_flag_takes(shown: str) -> None:
    from flows.command import _parser

    importlib.import_module("flows.defend")
    command = declared("flows.defend")
    assert command is not None
    assert f"  {shown}" in _parser(command).format_help()


def test_classifiers_do_not_import_pytorch_which_can_be_imported_later() -> None:
    pytest.importorskip("torch")
    code = (
        "import sys\nimport gauntlet.models.classifier, gauntlet.models.blackbox\n"
        "assert 'torch' not in sys.modules\nimport torch\n"
        "from art.estimators.classification import PyTorchClassifier as Theirs\n"
        "Theirs(torch.nn.Linear(2, 2), torch.nn.CrossEntropyLoss(), (2,), 2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not found" not in done.stderr


def test_the_package_is_a_program_too() -> None:
    done = run("gauntlet", "--help")
    assert (done.returncode, done.stdout) == (0, run("flows", "--help").stdout)


WRONG = (
    (("flows.train", "--epochs", "0"), "--epochs"),
    (("flows.train", "--epochs", "x"), "--epochs"),
    (("flows.train", "--architecture", "vgg"), "--architecture"),
    (("flows.attack",), "--model"),
    (("flows.attack", "--model", "x", "--attack", "fgms"), "fgms"),
    (("flows.attack", "--model", "x", "--attack", "pgd:steps=3"), "steps"),
    (("flows.attack", "--model", "x", "--eps", "-1"), "--eps"),
    (("flows.attack", "--model", "x", "--attack", "pgd:norm=3"), "norm"),
    (("flows.attack", "--model", "x", "--canaries"), "--canaries"),
    (("flows.nightly", "--allowed", "1"), "--allowed"),
    (("flows.poison", "--poisoning", "corner-trigger:count=3,rate=0.1"), "count"),
    (("flows.suite", "--defense", "none"), "none"),
    (("flows.scan", "--fail-on", "ever"), "--fail-on"),
    (("flows.privacy", "--theft", "membership-guess"), "membership-guess"),
    (("flows.privacy", "--theft", "extraction-knockoff:queries=many"), "queries"),
    (("flows.privacy", "--n", "1"), "--n"),
    (("flows.datascan", "--patch-score", "0"), "--patch-score"),
    (("flows.attack", "--model", "x", "--attack", "pgd:max_iter=3,max_iter=5"), "max_iter of pgd is given twice"),
    (("flows.attack", "--model", "x", "--eps", "8/255", "--eps", "8/255"), "--eps: 0.03137"),
    (("flows.suite", "--defense", "on-the-fly", "--defense", "on-the-fly"), "--defense: on-the-fly is given twice"),
    (("flows.suite", "--scan-path", "/nowhere"), "--scan-path /nowhere: no such file"),
    (("flows.nightly", "--scan-path", "/nowhere"), "--scan-path /nowhere: no such file"),
    (("flows.nightly", "--floor", "clean=0.5", "--floor", "clean=0.9"), "--floor: clean is given twice"),
    (("flows.nightly", "--floor", "cleann=0.9"), "--floor: no condition is called 'cleann'"),
    (("flows.nightly", "--notify", "slack"), "got 'slack' (Prefect block KIND/NAME"),
    (("flows.backdoor",), "--model: is needed"),
    (("flows.attack", "--model", "x", "--epss", "1"), "--epss 1, did you mean --eps?"),
    (("flows.attack", "--model", "x", "--attack", "pgd:maxiter=3"), "did you mean max_iter?"),
    (("flows.attack", "--model", "x", "--attack", "pgd,fgsm"), "repeat the flag for several"),
    (("flows.attack", "--model", "x", "--tracking-uri", "file:///runs"), "mlflow migrate-filestore"),
    (
        ("flows.attack", "--model", "x", "--dataset", "nowhere/data"),
        "'nowhere/data' (no such file or folder; known: digits",
    ),
    (("flows.attack", "--model", "x", "--dataset", "README.md"), "README.md: unknown data set: a file of this kind"),
    (("flows.attack", "--model", "nets.py:f"), "give nets:f"),
    (("flows.attack", "--model", "README.md"), "README.md"),
    (("flows.scan", "--threat-model", "README.md"), "README.md"),
    (("flows.scan", "--sarif", "/nowhere/x.sarif"), "--sarif /nowhere/x.sarif: cannot be written"),
    (("flows.scan", "--write-baseline", "/nowhere/x.json"), "--write-baseline /nowhere/x.json: cannot be written"),
    (("flows.reproduce", "--quick", "--write", "/nowhere/x.md"), "--write /nowhere/x.md: cannot be written"),
    (("flows.completion", "ksh"), "invalid choice: 'ksh'"),
    (("flows.tidy", "--keep", "soon"), "'soon' is no time to keep"),
    (("flows.movestore",), "the following arguments are required"),
    (("flows.audit", "--tail", "x"), "--tail: invalid int value"),
    (("mlflow_server.serve", "--mlflow-port", "x"), "--mlflow-port"),
)


def test_a_wrong_flag_is_one_line_and_status_2() -> None:
    for (words, says), done in zip(WRONG, typed([words for words, _ in WRONG]), strict=True):
        assert done.status == 2, words
        assert says in done.err, words
        assert len(done.err.strip().splitlines()) == 1, words
        assert done.out == "", words


def test_a_corrupt_data_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"not a zip")
    done = run("flows.train", "--dataset", str(bad), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert done.returncode == 2
    assert "bad.npz" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_json_is_the_last_line_and_nothing_else_on_standard_output(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = run("flows.scan", "--path", "tests/fixtures/sast", "--json", "--tracking-uri", store)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["metrics"]["scan/lines"] > 0
    assert result["path"] == "tests/fixtures/sast"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_a_command_that_is_stopped_says_so_in_a_word(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run that was open has ended FAILED by then (test_tracking)."""

    def stopped(*_: object) -> None:
        raise error

    monkeypatch.setattr("flows.command._run", stopped)
    done = performed(["--path", "tests/fixtures/sast", "--json"])
    assert (done, *capsys.readouterr()) == (status, "", "stopped\n")


def test_ctrl_c_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "attack", "tests.fixtures.interrupted")
    assert cli.main(["attack"]) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_what_a_persons_own_module_prints_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def chatty(*_: object) -> dict[str, int]:
        print("hello")
        return {"a": 1}

    monkeypatch.setattr("flows.command._run", chatty)
    assert performed(["--path", "tests/fixtures/sast", "--json"]) == 0
    assert capsys.readouterr() == ('{"a": 1}\n', "hello\n")


def test_a_failed_gate_is_status_1(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = run("flows.scan", "--path", "tests/fixtures/sast", "--fail-on", "high", "--tracking-uri", store)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("failed: ")
