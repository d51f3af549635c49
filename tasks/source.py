"""Where a model comes from, and how it becomes a classifier that can be attacked."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from gauntlet import limits
from gauntlet.data.readers import one_line
from gauntlet.errors import LimitError, ModelError, SettingError
from gauntlet.models.adapter import InputRange, Layout, Outputs, adapt
from gauntlet.models.files import FUNCTION, check_name, is_uri, load_file, load_weights
from gauntlet.models.pixels import Channels, channels
from gauntlet.models.pytorch.network import Network, of_module
from gauntlet.models.scale import divided
from tasks.store import registry

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.models.access import Target
    from gauntlet.models.blackbox import Function
    from gauntlet.models.classifier import CompiledClassifier, WhiteBox
    from gauntlet.threat import Images, Labels

PROBE = 1_000
"""Clean test images on which a model's input range, layout and outputs are detected."""


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

        if isinstance(self.white_box, CompiledClassifier):
            return self.white_box
        raise SettingError("a Keras model is needed, since it is trained on", where="model", fix="give a .keras file")


class Source(BaseModel):
    """A model by URI (`models:/…`, `runs:/…`), file or `module:function`, with what is not to be detected of it."""

    model_config = ConfigDict(frozen=True)

    model: str
    weights: str | None = None
    """A file of weights for the network that `module:function` builds."""
    input_range: InputRange = "auto"
    outputs: Outputs = "auto"
    layout: Layout = "auto"
    normalize: str | None = None
    """What is done to each channel behind the input range (`pixels.channels`)."""
    bgr: bool = False
    """Whether the model takes blue first."""
    output: str | None = None
    """The name of the output that holds the scores, of several."""
    trust: bool = False
    """Whether code that comes with the model may be run."""
    accept_chance: bool = False
    """Whether a model whose answers do not depend on the labels is evaluated all the same."""

    def load(self, dataset: Dataset) -> Loaded:
        """The classifier for a data set; `ModelError` when there is none or it does not fit."""
        index = dataset.test_subset(min(PROBE, len(dataset.x_test)), 0)
        x, y = dataset.x_test[index], dataset.y_test[index]
        try:
            if not self.trust:
                return self._open(dataset, x, y)
            print(f"trusted: code that comes with {one_line(self.model, 200)} is run", file=sys.stderr)
            # What is imported, unpickled or called then may never end.
            return replace(limits.call(self._open, dataset, x, y), trusted=True)
        except LimitError:
            raise
        except ModelError as error:
            raise ModelError(error.what, where=one_line(self.model, 200), fix=error.fix or dataset.remark()) from error

    def _open(self, dataset: Dataset, x: Images, y: Labels) -> Loaded:
        import keras

        found = self._read()
        if isinstance(found, Network):
            return self._torch(found, dataset, x, y)
        opened = self._white_box if isinstance(found, keras.Model) else self._black_box
        return opened(found, dataset, x, y)

    def _white_box(self, model: keras.Model, dataset: Dataset, x: Images, y: Labels) -> Loaded:
        """A Keras model; of one that a stage registered nothing need be detected."""
        from gauntlet.models.classifier import CompiledClassifier

        ours = self._is_uri and registry.is_ours(self.model)
        expects: tuple[Any, ...] = ("0..1", "logits") if ours else (*self._expects, self._channels, self.output)
        adapted = adapt(
            model, x, y, dataset.n_classes, *expects, doubt=not ours, accept_chance=self.accept_chance or ours
        )
        classifier = CompiledClassifier(divided(adapted.model, adapted.temperature), dataset.bounds)
        found = adapted.input_range, adapted.outputs, adapted.layout, adapted.better_range
        return Loaded(classifier, *found, accept_chance=self.accept_chance, temperature=adapted.temperature)

    def _torch(self, network: Network, dataset: Dataset, x: Images, y: Labels) -> Loaded:
        from gauntlet.models.pytorch.adapter import adapt_network

        more: dict[str, Any] = {"bounds": dataset.bounds, "accept_chance": self.accept_chance}
        expects = *self._expects, self._channels, self.output
        adapted = adapt_network(network, x, y, dataset.n_classes, *expects, **more)
        found = adapted.input_range, adapted.outputs, adapted.layout, adapted.better_range
        more = {"accept_chance": self.accept_chance, "temperature": adapted.temperature}
        return Loaded(adapted.classifier, *found, **more)

    def _black_box(self, function: Function, dataset: Dataset, x: Images, y: Labels) -> Loaded:
        from gauntlet.models.blackbox import open_blackbox

        input_range, outputs, layout = self._expects
        more: dict[str, Any] = {"bounds": dataset.bounds, "accept_chance": self.accept_chance}
        more |= {"channels": self._channels, "output": self.output}
        box = open_blackbox(function, x, y, dataset.n_classes, input_range, layout, outputs, **more)
        found = box.input_range, box.outputs, box.layout, box.better_range
        return Loaded(box.classifier, *found, accept_chance=self.accept_chance)

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

    def _read(self) -> keras.Model | Network | Function:
        """A model whose graph can be read, else a function of images. Without trust nothing it carries is run."""
        check_name(self.model, trust=self.trust, weights=self.weights)
        if FUNCTION.fullmatch(self.model):
            return _network(imported(self.model), self.weights)
        if not self._is_uri:
            return load_file(Path(self.model), trust=self.trust)
        if registry.is_keras(self.model):
            return registry.load_model(self.model, trust=self.trust)
        flavor = registry.flavor(self.model)
        if flavor == "onnx":
            return registry.load_onnx(self.model, trust=self.trust)
        if not self.trust:
            fix = "pass --trust if you trust where it comes from"
            raise ModelError(f"loading this model runs its code (flavor {flavor})", where=self.model, fix=fix)
        if flavor == "pytorch":
            return of_module(registry.load_torch(self.model))
        return _of_images(registry.load_pyfunc(self.model))

    @property
    def _is_uri(self) -> bool:
        return is_uri(self.model)


def _network(named: Any, weights: str | None) -> keras.Model | Network | Function:
    """What `module:name` is: a model, with weights a function that builds one, else a function of images."""
    torch = sys.modules.get("torch")  # a module that holds a network has imported it
    is_network = torch is not None and isinstance(named, torch.nn.Module)
    if weights is not None:
        return load_weights(Path(weights), named if is_network else _made(named))
    if is_network:
        return of_module(named)
    found: keras.Model | Function = named
    return found


def _made(factory: Any) -> Any:
    """What a function without parameters gives; `ModelError` when it raises."""
    from gauntlet.models.blackbox import reason

    try:
        return factory()
    except (Exception, SystemExit) as error:  # it may be anyone's
        fix = "name a function without parameters that builds the network"
        raise ModelError(f"calling the factory failed: {reason(error)}", fix=fix) from error


def imported(name: str) -> Function:
    """The function `module:function`, from the working directory or wherever Python looks; `ModelError` without."""
    from gauntlet.models.blackbox import reason

    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # it may be anyone's
        absent = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        what = f"there is no module {error.name}" if absent else f"importing {module_name} failed: {reason(error)}"  # type: ignore[union-attr]
        raise ModelError(
            what, where=name, fix=f"looked in {os.getcwd()} and on Python's path" if absent else ""
        ) from error
    function: Function | None = getattr(module, attribute, None)
    if not callable(function):
        what = f"{module_name} has no {attribute}" if function is None else f"{attribute} is no function"
        raise ModelError(what, where=name, fix="name one that takes images and gives scores or labels")
    return function


# --- MLflow's signatures ------------------------------------------------------------------------------------


def _of_images(model: Any) -> Function:
    """An MLflow `PyFuncModel` as a function of images, given as its signature wants them."""
    schema = model.metadata.get_input_schema()
    if schema is None:
        return lambda x: model.predict(x)
    if not schema.is_tensor_spec():
        return lambda x: model.predict(_columns(x, schema))
    if len(schema.inputs) != 1:
        raise ModelError(f"the model takes {len(schema.inputs)} inputs, expected one of images")
    (spec,), names = schema.inputs, schema.input_names() if schema.has_input_names() else None

    def predict(x: Images) -> Any:
        given = _cast(_shaped(x, spec.shape), spec.type)
        return model.predict({names[0]: given} if names else given)

    return predict


def _shaped(x: Images, shape: tuple[int, ...]) -> Images:
    """The same pixels, with the axes of length 1 that are wanted."""
    wanted = shape[1:]
    same = [n for n in wanted if n != 1] == [n for n in x.shape[1:] if n != 1]
    return x.reshape(len(x), *wanted) if same else x


def _cast(x: Images, dtype: np.dtype[Any]) -> np.ndarray:
    """Pixels of a type; whole numbers are rounded, not cut off."""
    if dtype.kind not in "iu":
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(x), limits.min, limits.max).astype(dtype)


def _columns(x: Images, schema: Any) -> Any:
    """Flat images as the frame of a signature whose columns are the pixels."""
    import pandas as pd

    if x.ndim != 2 or x.shape[1] != len(schema.inputs):
        raise ValueError(f"the signature has {len(schema.inputs)} columns, the images {x.shape[1:]}")
    names = schema.input_names() if schema.has_input_names() else range(x.shape[1])
    types = [spec.type.to_numpy() for spec in schema.inputs]
    if len(set(types)) == 1:
        return pd.DataFrame(_cast(x, types[0]), columns=list(names))
    return pd.DataFrame({name: _cast(x[:, i], types[i]) for i, name in enumerate(names)})
