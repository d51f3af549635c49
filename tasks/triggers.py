"""Show a model the triggers that are known: how many images do they send to their target?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gauntlet import limits
from gauntlet.evaluation.clean import share
from gauntlet.poisoning import AnyPoisoning
from gauntlet.quiet import load_tensorflow
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import tracking


@step("triggers")
def triggers(context: Context, target: Source, known: Sequence[AnyPoisoning], role: str = "model") -> str:
    """Success rate of each known trigger on test images of other classes than its target; returns the run's id."""
    import pandas as pd

    load_tensorflow()
    dataset = context.load()
    for one in known:
        one.check(dataset.input_shape, dataset.n_classes)
        one.check_goal(dataset.y_test, dataset.n_classes)
    known = [one.aimed(dataset.n_classes) for one in known]
    with limits.within("loading the model"):
        loaded = target.load(dataset)
    params = context.params() | target.model_dump() | {"trigger": [one.model_dump() for one in known]}
    with tracking.run("triggers", context, dataset, name=f"triggers on {role}", model=role, params=params) as run:
        frames, measured = [], []
        with shown(f"triggers on {role}"), limits.within("the triggers"):
            for one in known:
                wanted = one.goal(dataset.y_test, dataset.n_classes)
                index = np.flatnonzero(dataset.y_test != wanted)
                success = loaded.classifier.labels(one.trigger(dataset.x_test[index])) == wanted[index]
                facts = {"model": role, "condition": f"trigger {one.name}", "metric": "attack_success_rate"}
                measured.append(share(success, **facts))
                frames.append(pd.DataFrame({"index": index, "attack": one.name, "correct": ~success}))
        run.table("outcomes.parquet", pd.concat(frames, ignore_index=True))
        worst = max(measured, key=lambda m: m.value)
        shares = {"": worst.value, "_low": worst.low, "_high": worst.high}
        run.record(measured, {f"backdoor/attack_success_rate{end}": value for end, value in shares.items()})
    return run.id
