"""ONNX is read into Keras layers that give what ONNX Runtime gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from gauntlet.errors import ModelError
from tests.onnxes import OPSET, Tensors, column_network, dense_network, model, node, numbers, saved

reading = pytest.importorskip("gauntlet.models.onnx.reading")

MAPS = (1, 3, 9, 8)
VECTOR = (1, 12)
STATISTICS = {"s": numbers(3) + 1, "b": numbers(3), "m": numbers(3), "v": numbers(3) ** 2 + 0.1}
KERNEL = {"w": numbers(6, 3, 3, 3), "b": numbers(6)}
I = np.int64  # noqa: E741

Case = tuple[list[Any], tuple[int, ...], Tensors]
CASES: dict[str, Case] = {
    "Gemm": ([node("Gemm", "x w b", alpha=0.5, beta=2.0, transB=1)], VECTOR, {"w": numbers(5, 12), "b": numbers(5)}),
    "Gemm of one bias": ([node("Gemm", "x w b")], VECTOR, {"w": numbers(12, 5), "b": numbers(1)}),
    "MatMul": ([node("MatMul", "x w")], VECTOR, {"w": numbers(12, 5)}),
    "MatMul and Add": (
        [node("MatMul", "x w", "z"), node("Add", "b z")],
        VECTOR,
        {"w": numbers(12, 5), "b": numbers(5)},
    ),
    "MatMul of a column": ([node("MatMul", "w x")], (1, 12, 1), {"w": numbers(5, 12)}),
    "Conv": ([node("Conv", "x w b")], MAPS, KERNEL),
    "Conv without bias": ([node("Conv", "x w")], MAPS, {"w": numbers(6, 3, 3, 3)}),
    "Conv, same": ([node("Conv", "x w b", pads=[1, 1, 1, 1])], MAPS, KERNEL),
    "Conv, uneven pads": ([node("Conv", "x w b", pads=[0, 1, 2, 1])], MAPS, KERNEL),
    "Conv, strides and pads": ([node("Conv", "x w b", pads=[1, 1, 1, 1], strides=[2, 2])], MAPS, KERNEL),
    "Conv, dilations": ([node("Conv", "x w b", dilations=[2, 2])], MAPS, KERNEL),
    "Conv, even kernel": ([node("Conv", "x w", pads=[1, 1, 1, 1])], MAPS, {"w": numbers(4, 3, 2, 4)}),
    "Conv, SAME_UPPER": ([node("Conv", "x w b", auto_pad="SAME_UPPER", strides=[2, 2])], MAPS, KERNEL),
    "Conv, SAME_LOWER": ([node("Conv", "x w b", auto_pad="SAME_LOWER", strides=[2, 2])], MAPS, KERNEL),
    "Conv of each channel": ([node("Conv", "x w", group=3)], MAPS, {"w": numbers(6, 1, 3, 3)}),
    "Conv in groups": ([node("Conv", "x w", group=2)], (1, 4, 9, 8), {"w": numbers(6, 2, 3, 3)}),
    "BatchNormalization": ([node("BatchNormalization", "x s b m v", epsilon=1e-3)], MAPS, STATISTICS),
    "BatchNormalization of numbers": ([node("BatchNormalization", "x s b m v")], (1, 3), STATISTICS),
    "Relu": ([node("Relu", "x")], VECTOR, {}),
    "LeakyRelu": ([node("LeakyRelu", "x")], VECTOR, {}),
    "LeakyRelu 0.2": ([node("LeakyRelu", "x", alpha=0.2)], VECTOR, {}),
    "Elu": ([node("Elu", "x", alpha=0.7)], VECTOR, {}),
    **{
        op: ([node(op, "x")], VECTOR, {})
        for op in (
            "Sigmoid",
            "Tanh",
            "Softplus",
            "Softsign",
            "Mish",
            "HardSigmoid",
            "HardSwish",
            "Abs",
            "Neg",
            "Exp",
            "Erf",
            "Identity",
            "Dropout",
            "Sin",
            "Cos",
            "Sqrt",
        )
    },
    "Softmax": ([node("Softmax", "x", axis=1)], VECTOR, {}),
    "Softmax of maps": ([node("Softmax", "x", axis=1)], MAPS, {}),
    "LogSoftmax": ([node("LogSoftmax", "x", axis=-1)], VECTOR, {}),
    "MaxPool": ([node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])], MAPS, {}),
    "MaxPool, padded": (
        [node("Neg", "x", "z"), node("MaxPool", "z", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])],
        MAPS,
        {},
    ),
    "MaxPool, ceil": ([node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], MAPS, {}),
    "AveragePool": ([node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])], MAPS, {}),
    "AveragePool, padded": ([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], MAPS, {}),
    "AveragePool, zeros count": (
        [node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
        MAPS,
        {},
    ),
    "AveragePool, ceil": ([node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], MAPS, {}),
    "GlobalAveragePool": ([node("GlobalAveragePool", "x")], MAPS, {}),
    "GlobalMaxPool": ([node("GlobalMaxPool", "x")], MAPS, {}),
    "Add of two": ([node("Relu", "x", "z"), node("Add", "x z")], MAPS, {}),
    "Mul by each channel's": ([node("GlobalAveragePool", "x", "g"), node("Mul", "x g")], MAPS, {}),
    "Sub and Div by channel": (
        [node("Sub", "x m", "z"), node("Div", "z s")],
        MAPS,
        {"m": numbers(1, 3, 1, 1), "s": numbers(3, 1, 1) + 1},
    ),
    "Sub of an image": ([node("Sub", "x m")], MAPS, {"m": numbers(1, 3, 9, 8)}),
    "Sub from a number": ([node("Sub", "m x")], MAPS, {"m": np.float32(1.0).reshape(())}),
    "Div by a number": ([node("Div", "x m")], VECTOR, {"m": np.array([0.3081], np.float32)}),
    "Mul behind Flatten": ([node("Flatten", "x", "z"), node("Mul", "z m")], MAPS, {"m": numbers(216)}),
    "Pow": ([node("Pow", "x m")], VECTOR, {"m": np.array(2.0, np.float32)}),
    "Max of a number": ([node("Max", "x m")], VECTOR, {"m": np.array(0.5, np.float32)}),
    "Sum": ([node("Relu", "x", "a"), node("Neg", "x", "b"), node("Sum", "x a b")], VECTOR, {}),
    "Clip": ([node("Clip", "x a b")], VECTOR, {"a": np.array(0.2, np.float32), "b": np.array(0.6, np.float32)}),
    "Clip to six": ([node("Clip", "x a b")], VECTOR, {"a": np.array(0.0, np.float32), "b": np.array(6.0, np.float32)}),
    "Clip from below": ([node("Clip", "x a -")], VECTOR, {"a": np.array(0.2, np.float32)}),
    "Pad": ([node("Pad", "x p c")], MAPS, {"p": np.array([0, 0, 1, 2, 0, 0, 3, 4], I), "c": np.array(0.5, np.float32)}),
    "Pad by mirror": ([node("Pad", "x p", mode="reflect")], MAPS, {"p": np.array([0, 0, 1, 2, 0, 0, 3, 4], I)}),
    "Flatten": ([node("Flatten", "x")], MAPS, {}),
    "Flatten and Gemm": (
        [node("Flatten", "x", "z"), node("Relu", "z", "r"), node("Gemm", "r w")],
        MAPS,
        {"w": numbers(216, 5)},
    ),
    "Reshape": ([node("Reshape", "x s")], MAPS, {"s": np.array([0, -1], I)}),
    "Reshape to the same": ([node("Reshape", "x s")], MAPS, {"s": np.array([-1, 3, 9, 8], I)}),
    "Reshape to maps": (
        [node("Reshape", "x s", "z"), node("GlobalAveragePool", "z")],
        VECTOR,
        {"s": np.array([1, 3, 2, 2], I)},
    ),
    "Reshape by Shape": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n", axis=0),
            node("Unsqueeze", "n axes", "n1"),
            node("Concat", "n1 rest", "t", axis=0),
            node("Reshape", "x t"),
        ],
        MAPS,
        {"zero": np.array(0, I), "axes": np.array([0], I), "rest": np.array([-1], I)},
    ),
    "Transpose": ([node("Transpose", "x", perm=[0, 2, 3, 1])], MAPS, {}),
    "Transpose from channels last": (
        [node("Transpose", "x", "z", perm=[0, 3, 1, 2]), node("Conv", "z w b")],
        (1, 9, 8, 3),
        KERNEL,
    ),
    "Transpose of maps": ([node("Transpose", "x", perm=[0, 1, 3, 2])], MAPS, {}),
    "Squeeze": ([node("GlobalAveragePool", "x", "z"), node("Squeeze", "z a")], MAPS, {"a": np.array([2, 3], I)}),
    "Unsqueeze": ([node("Unsqueeze", "x a")], VECTOR, {"a": np.array([2, -1], I)}),
    "Concat of channels": ([node("Relu", "x", "z"), node("Concat", "x z", axis=1)], MAPS, {}),
    "Concat of columns": ([node("Relu", "x", "z"), node("Concat", "x z", axis=3)], MAPS, {}),
    "ReduceMean of maps": ([node("ReduceMean", "x", axes=[2, 3])], MAPS, {}),
    "ReduceMean, dropped": ([node("ReduceMean", "x", axes=[2, 3], keepdims=0)], MAPS, {}),
    "ReduceMean of channels": ([node("ReduceMean", "x", axes=[1])], MAPS, {}),
    "ReduceSum": ([node("ReduceSum", "x a", keepdims=0)], MAPS, {"a": np.array([-1], I)}),
    "ReduceMax": ([node("ReduceMax", "x", axes=[2])], MAPS, {}),
    "Gather": ([node("Gather", "x a", axis=1)], MAPS, {"a": np.array([2, 0], I)}),
    "Slice": (
        [node("Slice", "x s e a t")],
        MAPS,
        {"s": np.array([1, 0], I), "e": np.array([8, 2**62], I), "a": np.array([2, 3], I), "t": np.array([2, 1], I)},
    ),
    "Constant": ([node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0]), node("Mul", "x c")], (1, 3), {}),
    "Cast": ([node("Cast", "x", "z", to=11), node("Cast", "z", to=1)], VECTOR, {}),
    "constants folded": (
        [node("Sqrt", "v", "s"), node("Add", "s e", "d"), node("Div", "x d")],
        VECTOR,
        {"v": np.array([4.0], np.float32), "e": np.array([0.1], np.float32)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_what_onnx_runtime_gives(name: str, tmp_path: Path) -> None:
    nodes, shape, tensors = CASES[name]
    proto = model(nodes, shape, tensors, opset=18 if name == "Mish" else OPSET)
    made = reading.read(saved(proto, tmp_path / "m.onnx"))
    assert isinstance(made, keras.Model)
    images = np.random.default_rng(1).uniform(size=(5, *shape[1:])).astype(np.float32)
    expected = reading.Runtime.of(proto)(images)["y"]
    given = images.transpose(0, 2, 3, 1) if made.input_shape[1:] != shape[1:] else images
    np.testing.assert_allclose(np.asarray(made(given)).reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [2, 4, 6])
@pytest.mark.parametrize(("shape", "first"), [
    ((1, 1, 28, 28), "Flatten"), ((1, 784), "Reshape"), ((1, 784, 1), "Flatten"), ((1, 784, 1), "Reshape"),
    (("n", 1, 28, 28), "Flatten"),
])  # fmt: skip
def test_networks_of_verification_competitions_become_dense_layers(
    layers: int, shape: Any, first: str, tmp_path: Path
) -> None:
    made = reading.read(saved(dense_network(layers, shape, first, width=16), tmp_path / "m.onnx"))
    kinds = [type(layer).__name__ for layer in made.layers if layer.get_weights() or "ReLU" in type(layer).__name__]
    assert kinds == [*["Dense", "ReLU"] * layers, "Dense"]
    assert made.count_params() == sum(
        a * b + b for a, b in zip([784, *[16] * layers], [*[16] * layers, 10], strict=True)
    )


def test_columns_become_dense_layers(tmp_path: Path) -> None:
    made = reading.read(saved(column_network(4, width=16), tmp_path / "m.onnx"))
    kinds = [type(layer).__name__ for layer in made.layers]
    assert [kind for kind in kinds if kind in ("Dense", "ReLU")] == [*["Dense", "ReLU"] * 4, "Dense"]
    assert "Add" not in kinds


def test_an_unknown_operator_is_said_and_asked_through_onnx_runtime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = model([node("Flatten", "x", "z"), node("Hardmax", "z")], (1, 1, 2, 2))
    made = reading.read(saved(proto, tmp_path / "m.onnx"))
    assert isinstance(made, reading.Runtime)
    assert "Hardmax has no counterpart" in capsys.readouterr().err
    answer = made(np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2))["y"]
    np.testing.assert_array_equal(answer, np.eye(4))


def test_a_difference_is_refused_by_the_operators_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gauntlet.models.onnx import convert

    monkeypatch.setitem(convert.OPERATORS, "LeakyRelu", convert.OPERATORS["Relu"])
    proto = model([node("Neg", "x", "a"), node("LeakyRelu", "a", "b"), node("Exp", "b")], VECTOR)
    with pytest.raises(ModelError, match="first at LeakyRelu: refused"):
        reading.read(saved(proto, tmp_path / "m.onnx"))


def two_inputs(last: str) -> Any:
    """A network of the difference of two inputs."""
    proto = model([node("Sub", "x x/2", "d"), node("Flatten", "d", "f"), node(last, "f")], (1, 1, 2, 3))
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "x/2"
    return proto


def test_two_inputs_keep_their_names(tmp_path: Path) -> None:
    made = reading.read(saved(two_inputs("Relu"), tmp_path / "m.onnx"))
    assert [tensor.name for tensor in made.inputs] == ["x", "x_2"]
    images = numbers(2, 2, 3, 1)
    scores = np.asarray(made([images, -images], training=False))
    np.testing.assert_allclose(scores, np.maximum(2 * images, 0).reshape(2, 6), atol=1e-6)


def test_two_inputs_and_an_unknown_operator_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="of 2 inputs, and Hardmax has no counterpart"):
        reading.read(saved(two_inputs("Hardmax"), tmp_path / "m.onnx"))


def test_a_constant_of_a_strangers_size_is_refused() -> None:
    nodes = [node("ConstantOfShape", "s", "c"), node("ReduceMax", "c", "m", keepdims=0), node("Add", "x m")]
    proto = model(nodes, VECTOR, {"s": np.array([1 << 20, 1 << 20], I)})
    with pytest.raises(ModelError, match="at most"):
        reading.convert(proto)
