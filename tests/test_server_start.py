"""The state folder, the store, command lines and users: what is refused before a server starts."""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gauntlet.errors import SettingError, TrackingError
from gauntlet.state import PROJECT_ROOT, artifact_root, ensure_state, state_dir, store_uri
from mlflow_server import __main__ as server
from mlflow_server import auth, guard, serve
from mlflow_server.port import require_free
from mlflow_server.store import initialise
from tests.processes import HOST, free_port


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with a space in its name, because people have such folders; no password is set."""
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path / "my state"))
    for variable in auth.PASSWORDS:
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "my state"


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as taken:
        yield taken.getsockname()[1]


# The state folder


def test_the_default_is_beside_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAUNTLET_STATE", raising=False)
    assert state_dir() == PROJECT_ROOT / "state"
    assert store_uri() == f"sqlite:///{PROJECT_ROOT}/state/mlflow.db"


def test_a_relative_folder_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAUNTLET_STATE", "here")
    assert state_dir() == tmp_path / "here"


def test_asking_makes_nothing_and_ensuring_does(state: Path) -> None:
    assert (store_uri(), artifact_root()) == (f"sqlite:///{state}/mlflow.db", (state / "artifacts").as_uri())
    assert not state.exists()
    assert ensure_state() == state
    assert (state / "artifacts").is_dir()
    assert [path.name for path in state.iterdir()] == ["artifacts"]


def test_a_folder_that_cannot_be_made(state: Path) -> None:
    state.write_text("a file")
    with pytest.raises(SettingError, match=r"^GAUNTLET_STATE: cannot write to .*my state: .*GAUNTLET_STATE"):
        ensure_state()


# The store


@pytest.mark.slow
def test_four_processes_initialise_a_fresh_store_at_once(state: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=initialise, args=(store_uri(),)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert (state / "mlflow.db").stat().st_size > 0


def test_the_default_experiment_stays_in_the_state_folder(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    initialise(store_uri())
    (default,) = mlflow.MlflowClient(store_uri()).search_experiments()
    assert default.artifact_location == f"{artifact_root()}/0"
    assert list(tmp_path.iterdir()) == [state]


def test_a_file_that_is_no_store(state: Path) -> None:
    state.mkdir()
    (state / "mlflow.db").write_text("this is no database, but it is long enough to be looked at as one" * 20)
    with pytest.raises(TrackingError, match=r"mlflow\.db: .*not a database"):
        initialise(store_uri())


def test_other_stores_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    initialise("http://127.0.0.1:1")
    initialise("postgresql://nobody@127.0.0.1:1/none")
    assert list(tmp_path.iterdir()) == []


# Command lines


def test_a_busy_port_is_refused(busy: int) -> None:
    with pytest.raises(SettingError, match=f"--port {busy}: cannot listen on {HOST}: address already in use"):
        require_free(HOST, busy)


@pytest.mark.parametrize(
    ("main", "flags"),
    [(server.main, ["--port"]), (serve.main, ["--mlflow-port"]), (serve.main, ["--prefect-port"])],
    ids=["server", "serve mlflow", "serve prefect"],
)
def test_busy_ports_end_with_one_line_and_status_2(
    main: object, flags: list[str], busy: int, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(main)
    # The other port must be free wherever this runs, so both are always given.
    others = {"--mlflow-port": free_port(), "--prefect-port": free_port()} if main is serve.main else {}
    words = {**others, flags[0]: busy}
    assert main([str(word) for pair in words.items() for word in pair]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{flags[0]} {busy}" in err
    assert not state.exists()


@pytest.mark.parametrize("main", [server.main, serve.main], ids=["server", "serve"])
@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), (["--surprise"], 2)])
def test_help_and_unknown_flags(main: object, words: list[str], status: int) -> None:
    assert callable(main)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == status


@pytest.mark.parametrize("text", ["0", "65536", "-1", "x", ""])
def test_ports_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        server.main(["--port", text])
    assert stopped.value.code == 2
    assert "port" in capsys.readouterr().err


def test_an_unwritable_state_ends_with_status_2(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ)  # Restored with whatever `serve` puts in.
    state.write_text("a file")
    assert server.main(["--port", str(free_port())]) == 2
    assert capsys.readouterr().err.startswith("mlflow_server: GAUNTLET_STATE: cannot write to")


def test_artifacts_go_to_a_folder_unless_they_go_through_the_server(state: Path) -> None:
    def said(*words: str) -> list[str]:
        return server.arguments(server.parser().parse_args(words))

    plain, passed = said(), said("--artifacts-destination", "s3://b")
    assert plain[plain.index("--default-artifact-root") + 1] == artifact_root()
    assert "--no-serve-artifacts" in plain
    assert passed[passed.index("--artifacts-destination") + 1] == "s3://b"
    assert "--default-artifact-root" not in passed
    assert not state.exists()


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--cors-allowed-origins", "https://ml.example.org"),
        ("--backend-store-uri", "mysql://db/mlflow"),
        ("--workers", "4"),
    ],
)
def test_flags_reach_mlflow(flag: str, value: str) -> None:
    words = server.arguments(server.parser().parse_args([flag, value]))
    assert words[words.index(flag) + 1] == value


def test_clients_elsewhere_are_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    server.announce(server.parser().parse_args(["--host", "0.0.0.0"]))
    assert "--artifacts" in capsys.readouterr().err


# Users


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ml.example.org"])
def test_others_are_not_let_in_without_users(host: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.main(["--host", host]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mlflow_server: --host {host}: whoever reaches this address")
    assert "--auth" in line
    assert not state.exists()
    server.require_protected(server.parser().parse_args(["--host", host, "--insecure"]))


@pytest.mark.parametrize("main", [server.main, serve.main], ids=["server", "serve"])
@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "is not set"), ("", "is not set"), ("elevenchars", "is shorter than 12"), ("password1234", "used to ship")],
)
def test_no_start_without_a_good_password(
    main: object,
    value: str | None,
    told: str,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert callable(main)
    if value is not None:
        monkeypatch.setenv(auth.ADMIN_PASSWORD, value)
    assert main(["--auth"]) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"(mlflow_server|serve): {auth.ADMIN_PASSWORD}: .*{told}.*\n", err)
    assert (out, bool(value) and value in err) == ("", False)
    assert not state.exists()


def test_prefects_string_is_kept_and_the_users_own_is_taken(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = auth.prefect_string()
    assert first == auth.prefect_string() == (state / "auth" / "prefect").read_text()
    monkeypatch.setenv(auth.PREFECT, "me:a password of mine")
    assert auth.prefect_string() == "me:a password of mine"
    monkeypatch.setenv(auth.PREFECT, "without-a-colon")
    with pytest.raises(SettingError, match="user:password") as refused:
        auth.prefect_string()
    assert "without-a-colon" not in str(refused.value)


def words(*flags: str) -> list[str]:
    return server.arguments(server.parser().parse_args(flags))


def value(found: list[str], flag: str) -> str | None:
    return found[found.index(flag) + 1] if flag in found else None


def test_by_default_only_this_machine_and_its_names() -> None:
    flags = words("--port", "5001")
    assert value(flags, "--host") == "127.0.0.1"
    assert value(flags, "--allowed-hosts") == "127.0.0.1:5001,localhost:5001,[::1]:5001"
    assert value(flags, "--cors-allowed-origins") is None
    assert "--app-name" not in flags


def test_a_name_of_its_own_is_answered_and_any_other_must_be_given() -> None:
    flags = words("--host", "192.0.2.1", "--auth")
    assert str(value(flags, "--allowed-hosts")).endswith(",192.0.2.1:5000")
    assert str(value(words("--allowed-hosts", "a.org,b.org"), "--allowed-hosts")).endswith("[::1]:5000,a.org,b.org")
    assert value(flags, "--cors-allowed-origins") == "http://192.0.2.1:5000"
    assert value(flags, "--app-name") == guard.NAME
    assert "0.0.0.0" not in str(value(words("--host", "0.0.0.0", "--auth"), "--allowed-hosts"))


def test_a_changed_password_is_a_changed_password(state: Path) -> None:
    """In a process of its own: MLflow reads its settings once."""
    code = (
        "import os\nfrom mlflow_server import auth\n"
        "for secret in ('the first password', 'the second password'):\n"
        "    os.environ |= {auth.ADMIN_PASSWORD: secret, auth.WORKER_PASSWORD: secret[::-1]}\n"
        "    auth.prepare()\n"
        "    left = [name for name in auth.PASSWORDS if name in os.environ]\n"
        "store = auth._store()\n"
        "users = {user.username: user.is_admin for user in store.list_users()}\n"
        "known = [store.authenticate_user('admin', f'the {n} password') for n in ('first', 'second')]\n"
        "print(users, known, left)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "{'admin': True, 'worker': False} [False, True] []\n", done.stderr
    assert state.is_dir()
