"""Any model as a classifier that can be attacked, with what was found of it on clean images."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from gauntlet.errors import ModelError, SettingError
from gauntlet.models.adapter import InputRange, Layout, Outputs, adapt
from gauntlet.models.feeds import feeds
from gauntlet.models.pixels import Channels, channels
from gauntlet.models.pytorch.network import Network, of_module
from gauntlet.models.scale import divided

if TYPE_CHECKING:
    import keras

    from gauntlet.models.access import Target
    from gauntlet.models.blackbox import Function
    from gauntlet.models.classifier import CompiledClassifier, WhiteBox
    from gauntlet.threat import Images, Labels


@dataclass(frozen=True)
class Loaded:
    """A classifier, and what was detected of its model."""

    classifier: Target
    """A `WhiteBox` where there are gradients, else a `BlackBox`."""
    input_range: str
    outputs: str
    layout: str = "hwc"
    better_range: str | None = None
    """The input range that fits clearly better than the one stated."""
    trusted: bool = False
    """Whether code that came with the model was allowed to run."""
    accept_chance: bool = False
    """Whether a model at chance level is meant to be evaluated."""
    temperature: float = 1.0
    """What the logits of a white box are divided by."""
    fed: str = ""
    """What inputs beside the images' are filled with: `mask = 0`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers should know of how the model is asked."""
        return (f"other inputs of the model were filled: {self.fed}",) if self.fed else ()

    @property
    def white_box(self) -> WhiteBox:
        """The classifier with its gradients; `SettingError` when the model shows none."""
        from gauntlet.models.classifier import WhiteBox

        if isinstance(self.classifier, WhiteBox):
            return self.classifier
        raise SettingError(
            f"gradients are needed, the model shows only {self.classifier.access}",
            where="model",
            fix="give a model whose graph can be read: Keras, PyTorch or ONNX",
        )

    @property
    def keras(self) -> CompiledClassifier:
        """The classifier of a Keras model, which can be trained on; `SettingError` for any other."""
        from gauntlet.models.classifier import CompiledClassifier

        if isinstance(self.white_box, CompiledClassifier) and self.white_box.model.weights:
            return self.white_box
        raise SettingError("a Keras model is needed, since it is trained on", where="model", fix="give a .keras file")


class Expected(BaseModel):
    """What is stated of a model; what is not is found on clean images."""

    model_config = ConfigDict(frozen=True)

    input_range: InputRange = "auto"
    outputs: Outputs = "auto"
    layout: Layout = "auto"
    normalize: str | None = None
    """What is done to each channel behind the input range (`pixels.channels`)."""
    bgr: bool = False
    """Whether the model takes blue first."""
    output: str | None = None
    """The name of the output that holds the scores, of several."""
    input: str | None = None
    """The input that takes the images, of several, and what others are filled with (`feeds.feeds`)."""
    accept_chance: bool = False
    """Whether a model whose answers do not depend on the labels is evaluated all the same."""

    def opened(
        self,
        model: keras.Model | Network | Function,
        x: Images,
        y: Labels,
        n_classes: int,
        bounds: tuple[float, float] = (0.0, 1.0),
        *,
        ours: bool = False,
    ) -> Loaded:
        """The classifier of a model, by clean images `x` (n, h, w, c) with labels `y`; `ModelError` when it fits not.

        Of a model that is `ours`, made by a stage, nothing need be found.
        """
        import keras

        if self.input is not None and not isinstance(model, keras.Model):
            what, fix = "this model takes images alone", "only of Keras and ONNX models inputs are named"
            raise ModelError(what, where="input", fix=fix)
        if isinstance(model, Network):
            return self._torch(model, x, y, n_classes, bounds)
        if isinstance(model, keras.Model):
            return self._keras(model, x, y, n_classes, bounds, ours)
        return self._black_box(model, x, y, n_classes, bounds)

    def _keras(
        self, model: keras.Model, x: Images, y: Labels, n_classes: int, bounds: tuple[float, float], ours: bool
    ) -> Loaded:
        from gauntlet.models.classifier import CompiledClassifier

        expects: tuple[Any, ...] = ("0..1", "logits") if ours else (*self._expects, self._channels, self.output)
        more: dict[str, Any] = {"inputs": feeds(self.input), "accept_chance": self.accept_chance or ours}
        adapted = adapt(model, x, y, n_classes, *expects, doubt=not ours, **more)
        classifier = CompiledClassifier(divided(adapted.model, adapted.temperature), bounds)
        facts = adapted.input_range, adapted.outputs, adapted.layout, adapted.better_range
        found: dict[str, Any] = {"temperature": adapted.temperature, "fed": adapted.fed}
        return Loaded(classifier, *facts, accept_chance=self.accept_chance, **found)

    def _torch(self, network: Network, x: Images, y: Labels, n_classes: int, bounds: tuple[float, float]) -> Loaded:
        from gauntlet.models.pytorch.adapter import adapt_network

        expects = *self._expects, self._channels, self.output
        more: dict[str, Any] = {"accept_chance": self.accept_chance}
        adapted = adapt_network(network, x, y, n_classes, *expects, bounds=bounds, **more)
        facts = adapted.input_range, adapted.outputs, adapted.layout, adapted.better_range
        return Loaded(adapted.classifier, *facts, accept_chance=self.accept_chance, temperature=adapted.temperature)

    def _black_box(
        self, function: Function, x: Images, y: Labels, n_classes: int, bounds: tuple[float, float]
    ) -> Loaded:
        from gauntlet.models.blackbox import open_blackbox

        input_range, outputs, layout = self._expects
        more: dict[str, Any] = {"channels": self._channels, "output": self.output, "accept_chance": self.accept_chance}
        box = open_blackbox(function, x, y, n_classes, input_range, layout, outputs, bounds=bounds, **more)
        facts = box.input_range, box.outputs, box.layout, box.better_range
        return Loaded(box.classifier, *facts, accept_chance=self.accept_chance)

    @property
    def _expects(self) -> tuple[InputRange, Outputs, Layout]:
        """What is stated; means belong to pixels in [0, 1] or [0, 255], which their size tells."""
        pixels = self.input_range
        if pixels == "auto" and self._channels.mean:
            pixels = "0..255" if max(self._channels.mean) > 1 else "0..1"
        return pixels, self.outputs, self.layout

    @property
    def _channels(self) -> Channels:
        return channels(self.normalize, bgr=self.bgr)


def graph(model: Any) -> Any:
    """A PyTorch module as a `Network`; whatever else is given, unchanged."""
    torch = sys.modules.get("torch")  # who holds a module has imported it
    return of_module(model) if torch is not None and isinstance(model, torch.nn.Module) else model
