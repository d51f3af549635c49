"""The stages of a flow as Prefect tasks; a stage whose inputs have not changed is not run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from gauntlet.evaluation.provenance import code_digest
from tasks.context import Context
from tasks.store import origin, tracking

P = ParamSpec("P")
R = TypeVar("R")


def step(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a Prefect task of this name, without Prefect's cache.

    A step leaves a run in MLflow, which a cached result would not. Whether it must run at all is decided by `reuse`:
    the key of its run in MLflow holds on every machine, and a killed night resumes by it.
    """
    return task(name=name, cache_policy=NO_CACHE)


def key_of(context: Context, name: str, *inputs: Any) -> str:
    """A digest of all that a stage depends on: settings, data, seed, this project's code and the libraries'."""
    facts = {"name": name, "dataset": context.load().digest, "seed": context.seed, "inputs": [*map(_plain, inputs)]}
    facts |= {"code": code_digest(), "tasks": origin.tasks_digest(), "versions": origin.versions()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def reuse(
    context: Context, name: str, make: Callable[[Context], str], *inputs: Any, about: Context | None = None
) -> tuple[str, bool]:
    """The finished run of a stage with these inputs, or a fresh one by `make`; and whether it was there already.

    What the stage depends on is `about` where that is not the context: other data, another seed.
    """
    key = key_of(about or context, name, *inputs)
    earlier = tracking.finished(context, key)
    return (earlier, True) if earlier else (make(context.model_copy(update={"key": key})), False)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
