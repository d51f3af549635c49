"""What lies in deploy/: checked against the schemas of Compose and Kubernetes, and against the programs it starts.

No container is run here. `fixtures/schemas/compose-spec.json` is the Compose Specification's own schema (Apache 2.0).
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mlflow_server import __main__ as server

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: one for name, one in COMPOSE["services"].items() if "build" in one}
VERSION = "1.32"
"""Of Kubernetes."""
SECRET = re.compile(r"PASSWORD|SECRET|KEY|AUTH_STRING|STORE_URI|CONNECTION_URL")


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for one in yaml.safe_load_all(path.read_text()):
                yield f"{one['kind']} {one['metadata']['name']}", one


DOCUMENTS = dict(documents())
PODS = {name: one["spec"]["template"]["spec"] for name, one in DOCUMENTS.items() if "template" in one.get("spec", {})}
CONTAINERS = {name: pod["containers"][0] for name, pod in PODS.items()}


def test_the_compose_file_is_one() -> None:
    schema = json.loads((ROOT / "tests/fixtures/schemas/compose-spec.json").read_text())
    checks = jsonschema.Draft201909Validator(schema)
    plain = {name: value for name, value in COMPOSE.items() if not name.startswith("x-")}
    checks.validate(plain)
    with pytest.raises(jsonschema.ValidationError):
        checks.validate({"services": {"a": {"imagee": "x"}}})


def test_compose_asks_for_every_password_and_has_none() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+)", text))
    assert asked == set(re.findall(r"^(\w+)=$", (DEPLOY / "env.example").read_text(), re.M))
    assert all(each.endswith(":?set it in deploy/.env}") for each in re.findall(r"\$\{[^}]*\}", text))
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert "${" in value, name


@pytest.mark.parametrize("name", OURS)
def test_our_containers_write_nowhere_and_may_nothing(name: str) -> None:
    service = OURS[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for other in service.get("depends_on", []):
        assert other in COMPOSE["services"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_manifest_is_one(name: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], VERSION, strict=True)


def test_a_manifest_that_is_none_is_found() -> None:
    wrong = json.loads(json.dumps(DOCUMENTS["Deployment mlflow"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["resourcez"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pods_have_limits_rights_and_secrets_by_reference(name: str) -> None:
    pod, container = PODS[name], CONTAINERS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {*container["resources"]["requests"]} == {*container["resources"]["limits"]} == {"cpu", "memory"}
    for each in container["env"]:
        if SECRET.search(each["name"]) and each["name"] != "PREFECT_SERVER_CSRF_PROTECTION_ENABLED":
            assert each["valueFrom"]["secretKeyRef"]["name"] == "gauntlet", each["name"]
    if name.startswith("Deployment"):
        assert "livenessProbe" in container


def test_the_secret_of_the_docs_has_every_key() -> None:
    refs = {
        each["valueFrom"]["secretKeyRef"]["key"]
        for container in CONTAINERS.values()
        for each in container["env"]
        if "valueFrom" in each
    }
    made = re.findall(r"--from-literal=([\w-]+)=", (ROOT / "docs" / "servers.md").read_text())
    assert refs == set(made)


@pytest.mark.parametrize("words", [OURS["mlflow"]["command"], CONTAINERS["Deployment mlflow"]["command"]])
def test_mlflow_understands_its_command(words: list[str]) -> None:
    options = server.parser().parse_args(words[3:])
    assert words[:3] == ["python", "-m", "mlflow_server"]
    assert options.auth
    assert options.artifacts


@pytest.mark.parametrize("words", [OURS["prefect"]["command"], CONTAINERS["Deployment prefect"]["command"]])
def test_prefects_app_is_there(words: list[str]) -> None:
    module, _, name = words[2].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_image_is_of_locked_packages_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert any("-r requirements-cluster.txt -c constraints.txt" in line for line in lines)
    named = next(line for line in lines if line.startswith("COPY requirements"))
    assert all((ROOT / file).is_file() for file in named.split()[1:-1])
    kept_out = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", "state", "deploy/.env"} <= set(kept_out)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
def test_kustomize_builds_all_of_it() -> None:
    words = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    built = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    found = list(yaml.safe_load_all(built))
    assert len(found) == len(DOCUMENTS)
    for one in found:
        kubernetes_validate.validate(one, VERSION, strict=True)
        if "template" in one.get("spec", {}):
            assert one["spec"]["template"]["spec"]["containers"][0]["image"].startswith(
                "registry.example.org/gauntlet:"
            )
