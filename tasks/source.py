"""Where a model comes from, and how it becomes a classifier that can be attacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from gauntlet.adapter import InputRange, Outputs, adapt
from gauntlet.errors import ModelError
from gauntlet.models import load_file
from tasks import tracking

if TYPE_CHECKING:
    import keras

    from gauntlet.classifier import CompiledClassifier
    from gauntlet.datasets import Dataset

PROBE = 1_000
"""Clean test images on which a model's input range and outputs are detected."""


@dataclass(frozen=True)
class Loaded:
    """A classifier, and what was detected of its model."""

    classifier: CompiledClassifier
    input_range: str
    outputs: str


class Source(BaseModel):
    """A model by URI (`models:/…`, `runs:/…`) or file, with what it expects where that is not to be detected."""

    model_config = ConfigDict(frozen=True)

    model: str
    input_range: InputRange = "auto"
    outputs: Outputs = "auto"

    def load(self, dataset: Dataset) -> Loaded:
        """The classifier for a data set; `ModelError` when there is none or it does not fit."""
        from gauntlet.classifier import CompiledClassifier

        index = dataset.test_subset(min(PROBE, len(dataset.x_test)), 0)
        x, y = dataset.x_test[index], dataset.y_test[index]
        expects: tuple[InputRange, Outputs] = (self.input_range, self.outputs)
        if self._is_uri and tracking.is_ours(self.model):
            expects = ("0..1", "logits")
        try:
            adapted = adapt(self._read(), x, y, dataset.n_classes, *expects)
        except ModelError as error:
            raise ModelError(error.what, where=self.model, fix=error.fix) from error
        return Loaded(CompiledClassifier(adapted.model, dataset.bounds), adapted.input_range, adapted.outputs)

    def _read(self) -> keras.Model:
        return tracking.load_model(self.model) if self._is_uri else load_file(Path(self.model))

    @property
    def _is_uri(self) -> bool:
        return self.model.startswith(("models:/", "runs:/"))
