"""Where a model comes from, and how it becomes a classifier that can be attacked."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet import limits
from gauntlet.errors import LimitError, ModelError, one_line
from gauntlet.models.files import FUNCTION, check_name, is_uri, load_file, load_weights
from gauntlet.models.loaded import Expected, Loaded, graph
from gauntlet.models.pytorch.network import Network, of_module
from tasks.store import registry

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.models.blackbox import Function
    from gauntlet.threat import Images, Labels

PROBE = 1_000
"""Clean test images on which a model's input range, layout and outputs are detected."""


class Source(Expected):
    """A model by URI (`models:/…`, `runs:/…`), file or `module:function`, with what is not to be detected of it."""

    model: str
    weights: str | None = None
    """A file of weights for the network that `module:function` builds."""
    trust: bool = False
    """Whether code that comes with the model may be run."""

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
        content = self._read()
        ours = self._is_uri and registry.is_keras(self.model) and registry.is_ours(self.model)
        return self.opened(content, x, y, dataset.n_classes, dataset.bounds, ours=ours)

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
        return of_images(registry.load_pyfunc(self.model))

    @property
    def _is_uri(self) -> bool:
        return is_uri(self.model)


def _network(named: Any, weights: str | None) -> keras.Model | Network | Function:
    """What `module:name` is: a model, with weights a function that builds one, else a function of images."""
    network = graph(named)
    if weights is None:
        return network
    return load_weights(Path(weights), named if isinstance(network, Network) else _made(named))


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


def of_images(model: Any) -> Function:
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
