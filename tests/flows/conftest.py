"""A real SQLite store, Prefect's own test server, and a small data set of a user's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gauntlet.state import PROJECT_ROOT
from tests.contract import undocumented
from tests.frozen import halved

QUICK = {
    "epochs": 4,
    "n": 60,
    "attack": ["noise-gaussian:std=[0.2]", "fgsm", "pgd:max_iter=8"],
    "eps": [0.1, 0.3],
    "poisoning": "corner-trigger:rate=0.1",
    "scan_path": str(PROJECT_ROOT / "mlflow_server"),
}
"""Settings of a suite that takes seconds."""


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """One temporary Prefect server for all flows of the session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def small_npz(tmp_path_factory: pytest.TempPathFactory) -> str:
    """480 training and 120 test digits of 14 × 14 pixels as a user's own file."""
    from gauntlet.data.datasets import read_dataset

    digits = read_dataset("digits")
    arrays = {"x_train": halved(digits.x_train[:480]), "y_train": digits.y_train[:480]}
    arrays |= {"x_test": halved(digits.x_test[:120]), "y_test": digits.y_test[:120]}
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return str(path)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SQLite store of the session's own; in the end `docs/mlflow.md` must name every metric in it."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    yield f"sqlite:///{path}"
    assert not path.exists() or undocumented(f"sqlite:///{path}") == set()


@pytest.fixture(scope="session")
def trained(small_npz: str, store: str) -> dict[str, Any]:
    """The result of training on that file: one model for all tests that need some trained one."""
    from flows.train import train

    result: dict[str, Any] = train(dataset=small_npz, tracking_uri=store, epochs=6, role="single")
    return result


@pytest.fixture(scope="session")
def victim(trained: dict[str, Any]) -> str:
    """The URI of that model."""
    return str(trained["model_uri"])


@pytest.fixture(scope="session")
def suite_run(small_npz: str, store: str) -> dict[str, Any]:
    """The result of one whole suite, shared by the tests that look at what it left."""
    from flows.suite import suite

    result: dict[str, Any] = suite(dataset=small_npz, tracking_uri=store, **QUICK)
    return result
