"""How large the images are that a model takes, without loading it."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from gauntlet.models.inputs import size_of


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((8, 12, 3), (8, 12)),
        ((3, 8, 12), (8, 12)),
        ((8, 12), (8, 12)),
        ((None, None, 3), None),
        ((64,), None),
    ],
)
def test_the_description_tells(
    shape: tuple[int, ...], size: tuple[int, int] | None, suffix: str, tmp_path: Path
) -> None:
    images = keras.Input(shape)
    hidden = keras.layers.GlobalAveragePooling2D()(images) if None in shape else keras.layers.Flatten()(images)
    model = keras.Model(images, keras.layers.Dense(2)(hidden))
    model.save(tmp_path / f"model{suffix}")
    assert size_of(tmp_path / f"model{suffix}") == size


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"])
def test_what_cannot_be_read_says_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(content)
    assert size_of(tmp_path / "model.keras") is None
    assert size_of(tmp_path / "none.keras") is None


def test_onnx_tells(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 12])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 288])
    graph = helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "g", [images], [out])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert size_of(tmp_path / "model.onnx") == (8, 12)
