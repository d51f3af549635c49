"""What every stage needs: the data, the seed, the store, and the run it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict

from gauntlet.data.stated import Stated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gauntlet.data.datasets import Dataset
    from gauntlet.evaluation.shards import Hands


class Context(Stated):
    """Small enough to travel between tasks, processes and machines; arrays never do."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    data_dir: str | None = None
    seed: int = 0
    fold: int = 0
    """Which of the disjoint subsets of test images attacks are tried on."""
    device: str = "auto"
    """What was asked for (`gauntlet.models.device`); it is chosen before a task starts."""
    tracking_uri: str | None = None
    parent: str | None = None
    """The MLflow run that this stage's run is a child of."""
    key: str | None = None
    """A digest of all that the stage depends on, where its run may be taken again."""
    workers: int | None = None
    cluster: str | None = None
    """Who makes a battery's shards (`gauntlet.evaluation.cluster.hands`); without both, this process."""

    def below(self, parent: str) -> Context:
        """The same, for the children of a run."""
        return self.model_copy(update={"parent": parent, "key": None})

    @property
    def title(self) -> str:
        """The data set's name, or that of the user's own file or folder."""
        from gauntlet.data.datasets import DATASETS
        from gauntlet.data.own import title

        return self.dataset if self.dataset in DATASETS else title(self.dataset)

    def params(self) -> dict[str, object]:
        """What to log of it."""
        return self.model_dump(include={"dataset", "data_dir", *Stated.model_fields, "seed", "device", "fold"})

    def images(self, n: int | None) -> NDArray[np.int64]:
        """Positions of `n` test images, None for all."""
        return self.load().test_subset(n, self.seed, self.fold)

    def hands(self) -> Hands:
        """The workers that make a battery's shards; they are started, or connected, on first use."""
        from gauntlet.evaluation.cluster import hands

        return hands(self.workers, self.cluster)

    def load(self) -> Dataset:
        """The data set, read once a process."""
        from gauntlet.data.datasets import read_dataset

        folder = Path(self.data_dir) if self.data_dir else None
        return read_dataset(self.dataset, folder, self.stated())
