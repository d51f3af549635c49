"""An OpenStack Swift of the tests' own: one copy of everything in a fresh folder, spoken to as S3.

Swift lives in an environment of its own (`.venv-swift`, `make test-all` fills it): it patches sockets and pins
libraries as a service does, and nothing of ours imports it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gauntlet.state import PROJECT_ROOT
from tests.processes import HOST, alone, free_port, listens, wait_until

KEY, SECRET = "test:tester", "secret-of-the-tests"
VARIABLE = "GAUNTLET_SWIFT_BIN"
KINDS = ("account", "container", "object")
PIPELINE = "catch_errors gatekeeper cache s3api tempauth copy slo dlo proxy-server"
FILTERS = ("catch_errors", "gatekeeper", "copy", "slo", "dlo", "s3api")

SERVER = """[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/disks
mount_check = false
log_address = /nowhere
log_level = WARNING
fallocate_reserve = 0

[pipeline:main]
pipeline = {pipeline}

[app:{kind}-server]
use = egg:swift#{kind}
{extra}
"""


@dataclass
class Swift:
    """A running store."""

    programs: Path
    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Where S3's clients find it."""
        return f"http://{HOST}:{self.port}"

    def environment(self, secret: str = SECRET) -> dict[str, str]:
        """What a client of S3 reads."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
        # Swift knows no checksums of AWS' newer kind in trailers.
        checksums = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
        return {**keys, **checksums, "MLFLOW_S3_ENDPOINT_URL": self.endpoint}

    def client(self) -> Any:
        """boto3's client."""
        import boto3
        from botocore.config import Config

        told = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        config = Config(request_checksum_calculation="when_required", retries={"max_attempts": 1})
        return boto3.client("s3", endpoint_url=self.endpoint, config=config, **told)

    def bucket(self, name: str) -> str:
        """A new bucket; returns its URI."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def start(self) -> None:
        """Start the four servers, and wait until the one in front takes connections."""
        for name in ("proxy", *KINDS):
            log = self.folder / f"{name}.log"
            with log.open("ab") as output:
                words = [str(self.programs / f"swift-{name}-server"), str(self.folder / f"{name}.conf"), "--verbose"]
                told = {"SWIFT_TEST_CONFIG_FILE": "/dev/null", "PATH": os.environ["PATH"], "HOME": str(self.folder)}
                self.processes.append(subprocess.Popen(words, stdout=output, stderr=output, env=told))
        for name, port in _ports(self.folder).items():
            wait_until(lambda port=port: listens(port), self.folder / f"{name}.log")  # type: ignore[misc]

    def stop(self) -> None:
        """Stop all of them."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self.processes.clear()


def _ports(folder: Path) -> dict[str, int]:
    lines = {name: (folder / f"{name}.conf").read_text().splitlines() for name in ("proxy", *KINDS)}
    return {n: int(one.partition("= ")[2]) for n, text in lines.items() for one in text if one.startswith("bind_port")}


def programs() -> Path | None:
    """Where Swift's programs are: GAUNTLET_SWIFT_BIN, `.venv-swift`, beside this Python, or on PATH."""
    named = shutil.which("swift-proxy-server")
    places = [os.environ.get(VARIABLE), PROJECT_ROOT / ".venv-swift" / "bin", Path(sys.executable).parent]
    folders = [Path(place) for place in [*places, named and Path(named).parent] if place]
    return next((folder for folder in folders if (folder / "swift-proxy-server").is_file()), None)


def absent() -> str:
    """Why no Swift can be started here, or nothing."""
    return "" if programs() else f"no OpenStack Swift here: make test-all installs it ({VARIABLE} names its programs)"


def swift() -> AbstractContextManager[Swift]:
    """One store with nothing in it; no process and no file is left."""
    where = programs()
    assert where is not None, absent()
    return alone("swift", lambda folder: Swift(where, folder, free_port()), _configure)


def _configure(server: Swift) -> None:
    """swift.conf, a configuration for each server, and a ring of one device for each kind."""
    folder = server.folder
    (folder / "disks" / "d1").mkdir(parents=True)
    policy = "[swift-hash]\nswift_hash_path_suffix = tests\n\n[storage-policy:0]\nname = only\ndefault = yes\n"
    (folder / "swift.conf").write_text(policy)
    for kind in KINDS:
        port = free_port()
        text = SERVER.format(host=HOST, port=port, folder=folder, pipeline=f"{kind}-server", kind=kind, extra="")
        (folder / f"{kind}.conf").write_text(text)
        builder = [str(server.programs / "swift-ring-builder"), str(folder / f"{kind}.builder")]
        for words in (["create", "4", "1", "0"], ["add", f"r1z1-{HOST}:{port}/d1", "1"], ["rebalance"]):
            subprocess.run([*builder, *words], check=True, capture_output=True, timeout=60)
    (folder / "proxy.conf").write_text(_proxy(server))


def _proxy(server: Swift) -> str:
    """The server in front: S3, and one user."""
    name, user = KEY.split(":")
    extra = "account_autocreate = true\nallow_account_management = true\n"
    text = SERVER.format(
        host=HOST, port=server.port, folder=server.folder, pipeline=PIPELINE, kind="proxy", extra=extra
    )
    filters = [f"[filter:{one}]\nuse = egg:swift#{one}" for one in FILTERS]
    filters += ["[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:1"]
    filters += [f"[filter:tempauth]\nuse = egg:swift#tempauth\nuser_{name}_{user} = {SECRET} .admin"]
    return text + "\n\n".join(filters) + "\n"
