"""ONNX models for tests, made node by node."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx: Any = pytest.importorskip("onnx", reason="ONNX is not installed: make test-all installs it")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: make test-all installs it")

OPSET = 17
Shape = tuple[int | str, ...]
Tensors = dict[str, np.ndarray]


def numbers(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    """Weights."""
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def node(op: str, inputs: str, output: str = "y", domain: str = "", **attributes: Any) -> Any:
    """One node; inputs by name, parted by spaces, `-` for one that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return onnx.helper.make_node(op, names, output.split(), domain=domain, **attributes)


def model(
    nodes: list[Any], shape: Shape, tensors: Tensors | None = None, outputs: str = "y", opset: int = OPSET
) -> Any:
    """From the input `x` to outputs by name."""
    make = onnx.helper
    given = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    gives = [onnx.ValueInfoProto(name=name) for name in outputs.split()]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in (tensors or {}).items()]
    graph = make.make_graph(nodes, "g", [given], gives, weights)
    opsets = [make.make_opsetid("", opset), make.make_opsetid("evil", 1)]
    return make.make_model(graph, opset_imports=opsets, ir_version=9)


def saved(proto: Any, path: Path) -> Path:
    """Its file."""
    path.write_bytes(proto.SerializeToString())
    return path


def dense_network(layers: int, shape: Shape = (1, 1, 28, 28), first: str = "Flatten", width: int = 256) -> Any:
    """As in verification competitions: 784 numbers, `layers` times `width` ReLUs, 10 scores; a batch of one."""
    sizes = [784, *[width] * layers, 10]
    tensors: Tensors = {"shape": np.array([1, 784])}
    nodes = [node("Flatten", "x", "h0") if first == "Flatten" else node("Reshape", "x shape", "h0")]
    for at, (inputs, units) in enumerate(pairwise(sizes)):
        tensors |= {f"w{at}": numbers(units, inputs, seed=at, scale=0.05), f"b{at}": numbers(units, seed=at)}
        last = at == layers
        nodes.append(node("Gemm", f"h{at} w{at} b{at}", "y" if last else f"z{at}", transB=1))
        nodes += [] if last else [node("Relu", f"z{at}", f"h{at + 1}")]
    return model(nodes, shape, tensors)


def column_network(layers: int, width: int = 256) -> Any:
    """The same written as W @ x + b of columns, shape (1, 784, 1)."""
    sizes, tensors, nodes, before = [784, *[width] * layers, 10], Tensors(), [], "x"
    for at, (inputs, units) in enumerate(pairwise(sizes)):
        tensors |= {f"w{at}": numbers(units, inputs, seed=at, scale=0.05), f"b{at}": numbers(units, 1, seed=at)}
        nodes += [node("MatMul", f"w{at} {before}", f"m{at}"), node("Add", f"m{at} b{at}", f"z{at}")]
        before = f"h{at}"
        nodes += [node("Relu", f"z{at}", before)] if at < layers else [node("Flatten", f"z{at}", "y")]
    return model(nodes, (1, 784, 1), tensors)
