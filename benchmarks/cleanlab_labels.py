"""The other half of `benchmarks/datascan.py --cleanlab`, for a Python that has cleanlab; imports nothing of ours.

    python benchmarks/cleanlab_labels.py IN.npz OUT.npz

IN.npz holds images `x` (n, d), labels `y` (n,) and the shares `votes` (n, k) of the classes among each image's
neighbours. OUT.npz gets the positions of the images whose labels cleanlab doubts: from the same votes by the rule of
confident learning, and as its documentation has it, from a logistic regression's probabilities out of sample (5 folds)
by its default rule.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues  # type: ignore[import-not-found]
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

FOLDS = 5


def doubted(y: Any, probabilities: Any, rule: str) -> Any:
    """Positions of the doubted labels (n,) by probabilities (n, k), one process."""
    return np.flatnonzero(find_label_issues(y, probabilities, filter_by=rule, n_jobs=1))


def main() -> None:
    """Read, ask cleanlab, write."""
    with np.load(sys.argv[1]) as given:
        x, y, votes = given["x"], given["y"], given["votes"]
    learned = cross_val_predict(LogisticRegression(max_iter=1_000), x, y, cv=FOLDS, method="predict_proba")
    same, own = doubted(y, votes, "confident_learning"), doubted(y, learned, "prune_by_noise_rate")
    np.savez(sys.argv[2], **{"cleanlab, the same votes": same, "cleanlab, logistic regression": own})


if __name__ == "__main__":
    main()
