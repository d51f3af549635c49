"""The servers with users and passwords, as `make serve ARGS=--auth` starts them: who is refused, who is not."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gauntlet.state import PROJECT_ROOT
from mlflow_server import auth
from tests import strangers
from tests.processes import HOST, deployment_run, free_port, listens, running, wait_until

NAME = "mlflow.example.org"
PASSWORD = "correct horse battery"
EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=5"
FLOWS = "/api/flows/filter"


@dataclass(frozen=True)
class Secured:
    """The two servers, the folder they keep things in, and what the terminal said."""

    mlflow: int
    prefect: int
    state: Path
    log: Path

    @property
    def prefect_string(self) -> str:
        """user:password of Prefect's API."""
        return (self.state / "auth" / "prefect").read_text()

    def worker_environment(self) -> dict[str, str]:
        """What the worker was told, as its own user can read it."""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            if b"worker\0start" in file.read_bytes() and self._ours(file):
                told = file.with_name("environ").read_bytes().decode().split("\0")
                return dict(line.split("=", 1) for line in told if "=" in line)
        raise AssertionError("no worker")

    def commands(self) -> str:
        """Every command line of the servers."""
        servers = [file for file in Path("/proc").glob("[0-9]*/cmdline") if self._ours(file)]
        return "\n".join(file.read_bytes().replace(b"\0", b" ").decode() for file in servers)

    def _ours(self, file: Path) -> bool:
        try:
            return f"GAUNTLET_STATE={self.state}\0".encode() in file.with_name("environ").read_bytes()
        except OSError:
            return False


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def ask(
    port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: object = None
) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    told = {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, told | (headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One start of everything."""
    folder = tmp_path_factory.mktemp("secured")
    servers = Secured(free_port(), free_port(), folder / "state", folder / "serve.log")
    flags = ["--auth", "--mlflow-port", str(servers.mlflow), "--prefect-port", str(servers.prefect)]
    flags += ["--allowed-hosts", NAME, "--cors-allowed-origins", f"https://{NAME}"]
    with pytest.MonkeyPatch.context() as patch:
        for variable in [v for v in os.environ if v.startswith(("PREFECT_", "GAUNTLET_", "MLFLOW_TRACKING"))]:
            patch.delenv(variable)
        patch.setenv("GAUNTLET_STATE", str(servers.state))
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
        patch.setenv("GAUNTLET_PREFECT_HOSTS", "prefect.example.org")
        patch.setenv(auth.ADMIN_PASSWORD, PASSWORD)
        with running("mlflow_server.serve", *flags, log=servers.log) as process:
            wait_until(lambda: "Ready." in servers.log.read_text() or process.poll() is not None, servers.log, 180)
            assert process.poll() is None, servers.log.read_text()
            yield servers


@pytest.fixture(scope="module")
def reader(secured: Secured) -> dict[str, str]:
    """A user without a grant, made by the administrator."""
    body = {"username": "reader", "password": "another good password"}
    assert ask(secured.mlflow, "/api/2.0/mlflow/users/create", basic("admin", PASSWORD), "POST", body)[0] == 200
    return basic("reader", body["password"])


pytestmark = [pytest.mark.server]
slow = pytest.mark.slow


@slow
@pytest.mark.parametrize(
    "headers",
    [{}, *(basic("admin", wrong) for wrong in ("a wrong password", "password1234", "")), basic("nobody", PASSWORD)],
    ids=["anonymous", "wrong", "MLflow's old default", "empty", "unknown user"],
)
@pytest.mark.parametrize(
    "path", [EXPERIMENTS, "/", "/ajax-api/2.0/mlflow/users/list", "/get-artifact?path=x&run_uuid=x"]
)
def test_mlflow_answers_nobody_without_a_right_password(secured: Secured, path: str, headers: dict[str, str]) -> None:
    assert ask(secured.mlflow, path, headers)[0] == 401


@slow
def test_mlflow_answers_who_knows_the_password(secured: Secured) -> None:
    status, body = ask(secured.mlflow, EXPERIMENTS, basic("admin", PASSWORD))
    assert status == 200
    assert "experiments" in json.loads(body)


@slow
@pytest.mark.parametrize("host", ["evil.example.org", "10.evil.example.org:80", f"{HOST}.example.org", "localhost:1"])
def test_a_foreign_host_header_is_refused_whatever_the_password(secured: Secured, host: str) -> None:
    status, body = ask(secured.mlflow, EXPERIMENTS, basic("admin", PASSWORD) | {"Host": host})
    assert (status, "Host header" in body) == (403, True)


@slow
@pytest.mark.parametrize(("origin", "status"), [("https://evil.example.org", 403), ("null", 403), ("own", 200)])
def test_a_page_of_a_foreign_origin_may_not_write(secured: Secured, origin: str, status: int) -> None:
    own = f"http://{HOST}:{secured.mlflow}"
    headers = basic("admin", PASSWORD) | {"Origin": own if origin == "own" else origin}
    body = {"name": f"made-by-{status}-{len(origin)}"}
    assert ask(secured.mlflow, "/api/2.0/mlflow/experiments/create", headers, "POST", body)[0] == status


@slow
def test_no_request_of_a_page_of_another_site_is_let_in(secured: Secured) -> None:
    assert strangers.let_in(secured.mlflow, secured.prefect) == []


@slow
def test_prefect_answers_nobody_without_its_string(secured: Secured) -> None:
    for headers in ({}, basic("admin", PASSWORD), basic("gauntlet", "wrong")):
        assert ask(secured.prefect, "/api/work_pools/local", headers)[0] == 401
        # without a token a POST is refused before anybody looks at who asks; and nobody gets a token unasked
        assert ask(secured.prefect, FLOWS, headers, "POST", {})[0] == 403
        assert ask(secured.prefect, "/api/csrf-token?client=x", headers)[0] == 401
    right = basic(*secured.prefect_string.split(":"))
    assert ask(secured.prefect, "/api/work_pools/local", right)[0] == 200


@slow
def test_prefect_takes_no_writing_without_a_csrf_token_and_lets_no_foreign_page_read(secured: Secured) -> None:
    right = basic(*secured.prefect_string.split(":"))
    status, body = ask(secured.prefect, FLOWS, right, "POST", {})
    assert (status, "CSRF" in body) == (403, True)
    connection = http.client.HTTPConnection(HOST, secured.prefect, timeout=20)
    connection.request("GET", "/api/work_pools/local", headers=right | {"Origin": "https://evil.example.org"})
    assert connection.getresponse().headers["Access-Control-Allow-Origin"] is None
    connection.close()


@slow
def test_the_worker_runs_a_deployment_and_may_do_no_more_than_it_must(secured: Secured) -> None:
    path = PROJECT_ROOT / "mlflow_server" / "port.py"
    told = {auth.PREFECT: secured.prefect_string, "PREFECT_API_URL": f"http://{HOST}:{secured.prefect}/api"}
    done = deployment_run(told, "scan/scan", "--watch", "-p", f"path={path}", seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    worker = secured.worker_environment()
    mine = basic(worker["MLFLOW_TRACKING_USERNAME"], worker["MLFLOW_TRACKING_PASSWORD"])
    ids = [one["experiment_id"] for one in json.loads(ask(secured.mlflow, EXPERIMENTS, mine)[1])["experiments"]]
    query = {"experiment_ids": ids, "filter": "tags.`gauntlet.stage` = 'scan'"}
    (run,) = json.loads(ask(secured.mlflow, "/api/2.0/mlflow/runs/search", mine, "POST", query)[1])["runs"]
    assert run["info"]["status"] == "FINISHED"

    def may(path: str, method: str, body: object) -> int:
        return ask(secured.mlflow, f"/api/2.0/mlflow/{path}", mine, method, body)[0]

    assert may("users/create", "POST", {"username": "mallory", "password": "x" * 20}) == 403
    assert may("users/update-password", "PATCH", {"username": "admin", "password": "x" * 20}) == 403
    assert may("users/update-admin", "PATCH", {"username": "worker", "is_admin": True}) == 403
    assert may("experiments/delete", "POST", {"experiment_id": "0"}) == 403
    assert may("experiments/set-experiment-tag", "POST", {"experiment_id": "0", "key": "a", "value": "b"}) == 200


@slow
def test_a_user_without_grants_sees_what_is_their_own_alone(secured: Secured, reader: dict[str, str]) -> None:
    status, servers = ask(secured.mlflow, EXPERIMENTS, reader)
    assert (status, json.loads(servers).get("experiments", [])) == (200, [])
    own = {"name": "of-the-reader"}
    assert ask(secured.mlflow, "/api/2.0/mlflow/experiments/create", reader, "POST", own)[0] == 200
    mine = json.loads(ask(secured.mlflow, EXPERIMENTS, reader)[1])["experiments"]
    assert [one["name"] for one in mine] == ["of-the-reader"]


TAKEN = {
    "the flows' model": ("registered-models/create", {"name": "gauntlet-digits-model"}),
    "in capitals": ("registered-models/create", {"name": "Gauntlet-digits-model"}),
    "the flows' experiment": ("experiments/create", {"name": "gauntlet-elsewhere"}),
    "a place of their own": ("experiments/create", {"name": "placed", "artifact_location": "file:///etc"}),
    "a bucket of their own": ("experiments/create", {"name": "placed", "artifact_location": "s3://elsewhere/x"}),
}


@slow
@pytest.mark.parametrize(("path", "body"), TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("api", ["api", "ajax-api"])
def test_a_user_takes_no_name_of_the_flows_and_chooses_no_place(
    secured: Secured, reader: dict[str, str], api: str, path: str, body: dict[str, str]
) -> None:
    assert ask(secured.mlflow, f"/{api}/2.0/mlflow/{path}", reader, "POST", body)[0] == 403


@slow
def test_a_user_renames_nothing_to_a_name_of_the_flows(secured: Secured, reader: dict[str, str]) -> None:
    def may(path: str, method: str, body: object) -> int:
        return ask(secured.mlflow, f"/api/2.0/mlflow/{path}", reader, method, body)[0]

    assert may("registered-models/create", "POST", {"name": "mine"}) == 200
    assert may("registered-models/rename", "POST", {"name": "mine", "new_name": "gauntlet-digits-model"}) == 403
    assert may("registered-models/rename", "POST", {"name": "mine", "new_name": "still-mine"}) == 200


@slow
def test_the_worker_makes_what_the_flows_need(secured: Secured) -> None:
    told = secured.worker_environment()
    mine = basic(told["MLFLOW_TRACKING_USERNAME"], told["MLFLOW_TRACKING_PASSWORD"])
    for path in ("experiments/create", "registered-models/create"):
        body = {"name": "gauntlet-of-the-worker"}
        assert ask(secured.mlflow, f"/api/2.0/mlflow/{path}", mine, "POST", body)[0] == 200
    placed = {"name": "gauntlet-placed", "artifact_location": "file:///tmp/elsewhere"}
    assert ask(secured.mlflow, "/api/2.0/mlflow/experiments/create", mine, "POST", placed)[0] == 403


@slow
def test_no_password_is_in_an_argument_a_log_or_a_file_of_others(secured: Secured) -> None:
    worker = secured.worker_environment()
    known = {PASSWORD, secured.prefect_string.partition(":")[2], worker["MLFLOW_TRACKING_PASSWORD"]}
    assert PASSWORD not in worker.values()
    assert auth.ADMIN_PASSWORD not in worker
    printed = secured.commands() + "".join(file.read_text() for file in (secured.state / "logs").glob("*.log"))
    assert "--auth" in printed
    assert not [secret for secret in known if secret in printed + secured.log.read_text()]
    folder = secured.state / "auth"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    holders = [file.name for file in folder.iterdir() if any(s.encode() in file.read_bytes() for s in known)]
    assert holders == ["prefect"]


@slow
@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="reads the listening addresses from /proc")
def test_the_servers_listen_on_this_machine_alone(secured: Secured) -> None:
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path("/proc/net", file).read_text().splitlines()[1:]]
    listening = [line[1] for line in lines if line[3] == "0A"]
    for port in (secured.mlflow, secured.prefect):
        assert {address for address in listening if address.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}


# Behind a proxy, as docs/servers.md has it


@dataclass(frozen=True)
class Proxy:
    """Where nginx listens, and the certificate that it shows."""

    https: int
    http: int
    certificate: Path

    def ask(self, name: str, headers: dict[str, str], host: str | None = None) -> tuple[int, str]:
        """Status and TLS version of MLflow's list of experiments or of Prefect's pool."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        path = EXPERIMENTS if name == NAME else "/api/work_pools/local"
        with socket.create_connection((HOST, self.https), timeout=20) as plain:
            connection = http.client.HTTPConnection(HOST, self.https)
            connection.sock = encrypted = context.wrap_socket(plain, server_hostname=name)
            version = encrypted.version() or ""
            connection.request("GET", path, headers=headers | {"Host": host or name})
            status = connection.getresponse().status
            encrypted.close()
        return status, version


def certificate(folder: Path) -> Path:
    """A certificate that nobody but itself signed, and its key beside it."""
    names = f"subjectAltName=DNS:{NAME},DNS:prefect.example.org"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    words += ["-addext", names, "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(words, check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def proxy(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The documentation's own nginx settings, with this test's ports and files."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if not nginx or not shutil.which("openssl"):
        pytest.skip("nginx or openssl is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    servers = Proxy(free_port(), free_port(), certificate(folder))
    blocks = re.findall(r"```nginx\n(.*?)```", (PROJECT_ROOT / "docs" / "servers.md").read_text(), re.DOTALL)
    text = blocks[0].replace("listen 443 ssl", f"listen {HOST}:{servers.https} ssl")
    text = text.replace("listen 80;", f"listen {HOST}:{servers.http};")
    text = text.replace("127.0.0.1:5000", f"{HOST}:{secured.mlflow}").replace(
        "127.0.0.1:4200", f"{HOST}:{secured.prefect}"
    )
    text = re.sub(r"/etc/ssl/\S+\.pem", str(servers.certificate), text)
    text = re.sub(r"/etc/ssl/\S+\.key", str(folder / "key.pem"), text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
        f"http {{ access_log off; {paths}\n{text}\n}}\n"
    )
    process = subprocess.Popen([nginx, "-c", str(config), "-e", f"{folder}/error.log"])
    try:
        (folder / "error.log").touch()
        wait_until(lambda: listens(servers.https) or process.poll() is not None, folder / "error.log")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield servers
    finally:
        process.terminate()
        process.wait(20)


@slow
def test_nginx_ends_tls_and_the_servers_still_ask_who_it_is(secured: Secured, proxy: Proxy) -> None:
    assert proxy.ask(NAME, {})[0] == 401
    status, version = proxy.ask(NAME, basic("admin", PASSWORD))
    assert (status, version in ("TLSv1.2", "TLSv1.3")) == (200, True)
    assert proxy.ask(NAME, basic("admin", PASSWORD), host="evil.example.org")[0] == 403
    assert proxy.ask("prefect.example.org", {})[0] == 401
    assert proxy.ask("prefect.example.org", basic(*secured.prefect_string.split(":")))[0] == 200


@slow
def test_without_tls_the_proxy_only_says_where_to_go(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection(HOST, proxy.http, timeout=20)
    connection.request("GET", EXPERIMENTS, headers={"Host": NAME} | basic("admin", PASSWORD))
    response = connection.getresponse()
    assert (response.status, response.headers["Location"]) == (301, f"https://{NAME}{EXPERIMENTS}")
    connection.close()
