"""Every format that a model comes in: one row of docs/models.md each, with the same network behind all of them."""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from gauntlet.attacks import Pgd
from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.errors import InputError, ModelError
from gauntlet.models import files, trial
from gauntlet.models.access import Access
from gauntlet.models.outputs import run
from tasks.source import Source
from tests.frozen import frozen
from tests.gauntlet.attacking import fooled

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "models.md"
N = 24


@dataclass(frozen=True)
class Place:
    """Where a format's file goes, and what it is made of."""

    folder: Path
    model: keras.Model
    store: str

    def twin(self) -> Any:
        """The network in PyTorch."""
        from tests.torches import twin

        return twin(self.model)


@dataclass(frozen=True)
class Format:
    """One row."""

    name: str
    """As in the page."""
    make: Callable[[Place], dict[str, Any]]
    """Makes the file, and gives the settings of its source."""
    access: Access = "gradients"
    needs: str = ""
    """The extra."""


def kept(place: Place, suffix: str) -> dict[str, Any]:
    """Saved by Keras 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HDF5 is deprecated
        place.model.save(place.folder / f"m{suffix}")
    return {"model": str(place.folder / f"m{suffix}")}


def keras_2(place: Place) -> dict[str, Any]:
    """Saved by Keras 2."""
    from tests.gauntlet.models.test_old_keras import FORMS, written

    arrays = place.model.get_weights()
    weights = {name: arrays[2 * at : 2 * at + 2] for at, name in enumerate(("conv2d", "conv2d_1", "dense", "dense_1"))}
    return {"model": str(written(place.folder / "m.h5", next(iter(FORMS.values())), weights))}


def exported(place: Place) -> dict[str, Any]:
    """By `torch.export`, for one image."""
    import torch

    program = torch.export.export(place.twin(), (torch.zeros(1, 1, 28, 28),))
    torch.export.save(program, place.folder / "m.pt2")
    return {"model": str(place.folder / "m.pt2")}


def torchscript(place: Place) -> dict[str, Any]:
    """By `torch.jit.trace`."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(place.twin(), torch.zeros(1, 1, 28, 28)), str(place.folder / "m.pt"))
    return {"model": str(place.folder / "m.pt")}


def weights(place: Place, suffix: str) -> dict[str, Any]:
    """A state dict for a factory."""
    import torch
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in place.twin().state_dict().items()}
    path = place.folder / f"m{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    text = "from tests.frozen import network\nfrom tests.torches import twin\n\n"
    (place.folder / "factories.py").write_text(f"{text}def untrained():\n    return twin(network())\n")
    return {"model": "factories:untrained", "weights": str(path), "trust": True}


def onnx(place: Place, *, unknown: bool = False) -> dict[str, Any]:
    """As exporters write it: channels first, a batch of one."""
    from tests.onnxes import model, node, saved

    kernels = place.model.get_weights()
    tensors = {f"w{at}": kernels[2 * at].transpose(3, 2, 0, 1) for at in range(2)}
    rows = kernels[4].reshape(12, 12, 16, 32).transpose(2, 0, 1, 3).reshape(-1, 32)
    tensors |= {"w2": rows, "w3": kernels[6]} | {f"b{at}": kernels[2 * at + 1] for at in range(4)}
    nodes = [
        node("Conv", "x w0 b0", "c0"), node("Relu", "c0", "r0"), node("Conv", "r0 w1 b1", "c1"),
        node("Relu", "c1", "r1"), node("MaxPool", "r1", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", "f"), node("Gemm", "f w2 b2", "d"), node("Relu", "d", "r2"),
        node("Gemm", "r2 w3 b3", "z" if unknown else "y"),
    ]  # fmt: skip
    nodes += [node("Shrink", "z", "y", lambd=0.0, bias=0.0)] if unknown else []
    return {"model": str(saved(model(nodes, (1, 1, 28, 28), tensors), place.folder / "m.onnx"))}


def saved_model(place: Place, kind: str) -> dict[str, Any]:
    """A folder with a serving signature."""
    from tests.gauntlet.models.test_savedmodel import saved

    return {"model": str(saved(place.model, kind, place.folder / "saved"))}


def tflite(place: Place) -> dict[str, Any]:
    """By TensorFlow's converter."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = tf.lite.TFLiteConverter.from_keras_model(place.model).convert()
    (place.folder / "m.tflite").write_bytes(content)
    return {"model": str(place.folder / "m.tflite")}


def named(place: Place, what: str) -> dict[str, Any]:
    """A model or a function of a module."""
    text = "from tests.frozen import frozen\n\nmodel = frozen()\n"
    text += "def scores(x):\n    return model.predict(x, verbose=0)\n"
    text += "def twin_of():\n    from tests.torches import twin\n    return twin(model)\n"
    text += "twin = twin_of()\n" if what == "twin" else ""
    (place.folder / "named_models.py").write_text(text)
    return {"model": f"named_models:{what}", "trust": True}


def logged(place: Place, flavor: str) -> dict[str, Any]:
    """In MLflow's store."""
    import mlflow

    from tasks.store import connection

    connection.connect(place.store)
    with mlflow.start_run(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if flavor == "pytorch":
            settings = {"serialization_format": "pickle"}
            info = mlflow.pytorch.log_model(place.twin(), name="m", pip_requirements=["torch"], **settings)
        else:
            import onnx as library

            proto = library.load(onnx(place)["model"])
            info = mlflow.onnx.log_model(proto, name="m", pip_requirements=["onnx"])
    return {"model": str(info.model_uri), "trust": flavor == "pytorch"}


FORMATS = [
    Format("`.keras`", lambda p: kept(p, ".keras")),
    Format("`.h5` of Keras 3", lambda p: kept(p, ".h5")),
    Format("`.h5` of Keras 2", keras_2),
    Format("`.pt2` (`torch.export`)", exported, needs="torch"),
    Format("`.pt`, `.pth` (TorchScript)", torchscript, needs="torch"),
    Format("`module:factory` and `--weights FILE.pt`", lambda p: weights(p, ".pt"), needs="torch"),
    Format("`module:factory` and `--weights FILE.safetensors`", lambda p: weights(p, ".safetensors"), needs="torch"),
    Format("`.onnx`", onnx, needs="onnx"),
    Format("`.onnx` with an operator that is not known", lambda p: onnx(p, unknown=True), "scores", "onnx"),
    Format("SavedModel folder", lambda p: saved_model(p, "keras")),
    Format("SavedModel folder with integer pixels", lambda p: saved_model(p, "bytes"), "scores"),
    Format("`.tflite`", tflite, "scores"),
    Format("`module:model`, a Keras model", lambda p: named(p, "model")),
    Format("`module:model`, a PyTorch module", lambda p: named(p, "twin"), needs="torch"),
    Format("`module:function`", lambda p: named(p, "scores"), "scores"),
    Format("MLflow, flavor `pytorch`", lambda p: logged(p, "pytorch"), needs="torch"),
    Format("MLflow, flavor `onnx`", lambda p: logged(p, "onnx"), needs="onnx"),
]


def of_code(place: Place, layer: Any) -> Path:
    """The network behind a layer of one's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what cannot be loaded again
        keras.Sequential([keras.Input((28, 28, 1)), layer, place.model]).save(place.folder / "m.keras")
    return place.folder / "m.keras"


class Own(keras.layers.Layer):
    """A layer of a stranger's."""

    def call(self, x: Any) -> Any:
        """As it is."""
        return x


def pickled(place: Place) -> Path:
    """A whole PyTorch module."""
    import torch

    torch.save(place.twin(), place.folder / "m.pt")
    return place.folder / "m.pt"


def program(place: Place, *, training: bool) -> Path:
    """Exported while training, or with two inputs."""
    import torch

    class Masked(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, mask: Any) -> Any:
            return x * mask

    images = torch.zeros(1, 1, 28, 28)
    module = torch.nn.Dropout().train() if training else Masked()
    torch.export.save(torch.export.export(module, (images,) if training else (images, images)), place.folder / "m.pt2")
    return place.folder / "m.pt2"


def weights_alone(place: Place) -> Path:
    """Without a network."""
    place.model.save_weights(place.folder / "m.weights.h5")
    return place.folder / "m.weights.h5"


def touched(place: Place, name: str) -> Path:
    """A file, or a folder, of this name."""
    path = place.folder / name
    path.mkdir() if name.endswith("/") else path.write_bytes(b"anything")
    return path


REFUSED: dict[str, tuple[Callable[[Place], Path], str]] = {
    "`.keras` with a `Lambda` layer": (lambda p: of_code(p, keras.layers.Lambda(lambda x: 1 * x)), ""),
    "`.keras` with a layer of one's own": (lambda p: of_code(p, Own()), ""),
    "`.weights.h5`": (weights_alone, ""),
    "a module pickled by `torch.save(model)`": (pickled, "torch"),
    "`.pt2`, exported while training": (lambda p: program(p, training=True), "torch"),
    "`.pt2` with two inputs": (lambda p: program(p, training=False), "torch"),
    "`.pkl`, `.joblib`": (lambda p: touched(p, "m.joblib"), ""),
    "a frozen graph, `.pb`": (lambda p: touched(p, "m.pb"), ""),
    "a SavedModel folder that reads a file": (lambda p: Path(saved_model(p, "reads a file")["model"]), ""),
    "a SavedModel folder of encoded images": (lambda p: Path(saved_model(p, "text")["model"]), ""),
    "a SavedModel folder without a signature": (lambda p: Path(saved_model(p, "no signature")["model"]), ""),
    "a folder of something else": (lambda p: touched(p, "folder/"), ""),
}
"""What is refused, by its row in the page; and the package that makes it."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return read_dataset("digits")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return frozen()


@pytest.fixture
def place(model: keras.Model, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # the process in which a file is tried takes seconds to start; the slow tests below start it
    monkeypatch.setattr(trial, "passed", lambda *_: None)
    monkeypatch.setattr(trial, "ahead", lambda *_: None)
    yield Place(tmp_path, model, store)
    for name in ("factories", "named_models"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("case", FORMATS, ids=lambda case: case.name)
def test_a_format_gives_what_the_keras_model_gives(
    case: Format, place: Place, model: keras.Model, digits: Dataset
) -> None:
    if case.needs:
        pytest.importorskip(case.needs, reason=f"{case.needs} is not installed: make test-all installs it")
    loaded = Source(**case.make(place)).load(digits)
    assert loaded.classifier.access == case.access
    x, y = digits.x_test[:N], digits.y_test[:N]
    scores = loaded.classifier.predict(x) * loaded.temperature
    x = np.rint(255 * x) / 255 if case.name.endswith("integer pixels") else x
    np.testing.assert_allclose(scores, run(model, x), atol=1e-3)
    if case.access == "gradients":
        broken = fooled(loaded.white_box, Pgd(max_iter=5), x, y, 0.1)
        expected = fooled(Source(**kept(place, ".keras")).load(digits).white_box, Pgd(max_iter=5), x, y, 0.1)
        assert (broken != expected).sum() <= 1  # an image at the very border may fall on either side


@pytest.mark.slow
@pytest.mark.parametrize("name", ["`.pt2` (`torch.export`)", "`.pt`, `.pth` (TorchScript)", "`.onnx`", "`.tflite`"])
def test_a_file_is_first_tried_in_a_process_of_its_own(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = next(case for case in FORMATS if case.name == name)
    if case.needs:
        pytest.importorskip(case.needs, reason=f"{case.needs} is not installed: make test-all installs it")
    path = case.make(place)["model"]
    monkeypatch.undo()
    files.load_file(Path(path))
    assert trial._mark(hashlib.sha256(Path(path).read_bytes()).hexdigest()).is_file()


def test_the_page_has_a_row_for_each() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (white-box|black-box) \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    boxes: dict[Access, str] = {"gradients": "white-box", "scores": "black-box"}
    assert [(name, box) for name, box, _ in rows] == [(case.name, boxes[case.access]) for case in FORMATS]
    assert [("`.[" in needs) for _, _, needs in rows] == [bool(case.needs) for case in FORMATS]


def lines_of_the_page() -> dict[str, str]:
    """What is said of what is refused, by the page."""
    part = PAGE.read_text().partition("## What is refused")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| (.+?) \| `(.+)` \|$", part, re.MULTILINE))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_the_page_says(name: str, place: Place) -> None:
    make, needs = REFUSED[name]
    if needs:
        pytest.importorskip(needs, reason=f"{needs} is not installed: make test-all installs it")
    path = make(place)
    with pytest.raises(ModelError) as refused:
        files.load_file(path)
    assert lines_of_the_page()[name] in str(refused.value)


def test_the_page_has_a_line_for_each_that_is_refused() -> None:
    assert list(lines_of_the_page()) == list(REFUSED)


def test_weights_without_a_factory_say_what_to_do(place: Place, digits: Dataset) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: make test-all installs it")
    path = weights(place, ".pt")["weights"]
    with pytest.raises(ModelError, match=r"weights alone.*--weights FILE, beside --model module:factory"):
        Source(model=path).load(digits)
    with pytest.raises(ModelError, match="for a network that module:factory builds"):
        Source(model="m.keras", weights=path).load(digits)


@pytest.mark.parametrize("name", ["imagenet", "0.5,0.4,0.3/0.2,0.2,0.3"])
def test_what_is_stated_of_the_channels_must_fit(name: str, place: Place, digits: Dataset) -> None:
    with pytest.raises(InputError, match="3 means for images of 1 channels"):
        Source(**kept(place, ".keras"), normalize=name).load(digits)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def factory():\n    raise OSError('no disk')\n", "calling the factory failed: OSError: no disk"),
        ("def factory(size):\n    pass\n", "calling the factory failed: TypeError"),
        ("def factory():\n    return 3\n", "the factory gives a int, not a torch.nn.Module"),
        ("import torch\ndef factory():\n    return torch.nn.Linear(2, 2)\n", "lacks weight and 1 more weights"),
        (
            "from tests.frozen import network\nfrom tests.torches import torch, twin\ndef factory():\n"
            "    made = twin(network())\n    made[0] = torch.nn.Conv2d(3, 8, 3)\n    return made\n",
            r"0.weight has shape \(8, 1, 3, 3\), the network's \(8, 3, 3, 3\)",
        ),
    ],
    ids=["raises", "takes something", "gives no module", "another network", "another shape"],
)
def test_a_factory_that_does_not_fit_is_one_line(code: str, says: str, place: Place, digits: Dataset) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: make test-all installs it")
    path = weights(place, ".pt")["weights"]
    (place.folder / "factories.py").write_text(code)
    with pytest.raises(ModelError, match=says):
        Source(model="factories:factory", weights=path, trust=True).load(digits)


def test_without_pytorch_a_model_says_what_to_install(
    place: Place, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: make test-all installs it")
    facts = exported(place)
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"torch is not installed \(pip install -r requirements-torch.txt"):
        Source(**facts).load(digits)
