"""Pooling, padding, reshaping, joining, reducing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gauntlet.models.onnx.values import Any_, UnknownOperatorError, Value, flattened, like, made, plain, turned

Pads = tuple[tuple[int, int], tuple[int, int]]
LOWEST = float(np.finfo(np.float32).min)
TURNED = (0, 3, 1, 2)
"""Where ONNX's axes of maps are when channels are last."""


def pads_of(x: Value, reach: Sequence[int], strides: Sequence[int], attributes: dict[str, Any]) -> Pads:
    """Rows and columns before and behind the maps, by `pads` or `auto_pad`."""
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
        return (top, bottom), (left, right)
    if auto == "VALID":
        return (0, 0), (0, 0)
    pads = []
    for size, window, stride in zip(x.shape[2:], reach, strides, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + window - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return pads[0], pads[1]


def padded(images: Any, pads: Pads, value: float) -> Any:
    """Maps (n, h, w, c) with a border."""
    from keras import layers as nn
    from keras import ops

    if not any(map(any, pads)):
        return images
    if min(n for pair in pads for n in pair) < 0:
        raise UnknownOperatorError("negative padding")
    return nn.ZeroPadding2D(pads)(images) if value == 0 else ops.pad(images, ((0, 0), *pads, (0, 0)), "constant", value)


def _window(x: Value, attributes: dict[str, Any]) -> tuple[Value, tuple[int, ...], tuple[int, ...], Pads]:
    """Maps, window, strides and borders of a pooling; with `ceil_mode` the last border is longer."""
    x, sizes = turned(x), tuple(attributes["kernel_shape"])
    if len(sizes) != 2 or set(attributes.get("dilations", (1, 1))) != {1}:
        raise UnknownOperatorError("pooling with dilations or over other than two axes")
    strides = tuple(attributes.get("strides", (1, 1)))
    pads = pads_of(x, sizes, strides, attributes)
    if attributes.get("ceil_mode"):
        pads = _longer(x, sizes, strides, pads)
    return x, sizes, strides, pads


def _longer(x: Value, sizes: Sequence[int], strides: Sequence[int], pads: Pads) -> Pads:
    longer = []
    for size, window, stride, (before, behind) in zip(x.shape[2:], sizes, strides, pads, strict=True):
        steps = math.ceil((size + before + behind - window) / stride)
        if steps * stride >= size + before:  # the last window would begin behind the maps
            steps -= 1
        longer.append((before, max(behind, steps * stride + window - size - before)))
    return longer[0], longer[1]


def max_pool(x: Value, **attributes: Any) -> Value:
    """The largest of each window."""
    from keras import layers as nn

    x, sizes, strides, pads = _window(x, attributes)
    return made(nn.MaxPooling2D(sizes, strides)(padded(x.tensor, pads, LOWEST)), "turned")


def average_pool(x: Value, **attributes: Any) -> Value:
    """The mean of each window, with the border's zeros or without."""
    from keras import layers as nn
    from keras import ops

    x, sizes, strides, pads = _window(x, attributes)
    tensor = nn.AveragePooling2D(sizes, strides)(padded(x.tensor, pads, 0.0))
    if not any(map(any, pads)) or (attributes.get("count_include_pad") and not attributes.get("ceil_mode")):
        return made(tensor, "turned")
    if attributes.get("count_include_pad"):
        raise UnknownOperatorError("AveragePool with ceil_mode and count_include_pad")
    inside = np.pad(np.ones((1, *x.tensor.shape[1:3], 1), np.float32), ((0, 0), *pads, (0, 0)))
    share = np.asarray(nn.AveragePooling2D(sizes, strides)(inside))
    return made(ops.divide(tensor, share), "turned")


def _global(kind: str) -> Callable[..., Value]:
    def run(x: Value, **_: Any) -> Value:
        from keras import layers as nn

        return made(getattr(nn, kind)(keepdims=True)(turned(x).tensor), "turned")

    return run


def pad(x: Value, pads: Any_ | None = None, value: Any_ | None = None, axes: Any_ | None = None, **more: Any) -> Value:
    """A border of one number, or of mirrored pixels."""
    from keras import ops

    wanted = more.get("pads", pads)
    if wanted is None or isinstance(wanted, Value) or isinstance(value, Value) or axes is not None:
        raise UnknownOperatorError("Pad by what is computed from the images")
    x = turned(x) if x.rank == 4 else plain(x)
    n = x.rank
    border = [(int(wanted[i]), int(wanted[i + n])) for i in range(n)]
    if border[0] != (0, 0) or min(map(min, border)) < 0:
        raise UnknownOperatorError("Pad of the batch, or by less than nothing")
    border = [border[0], border[2], border[3], border[1]] if x.form == "turned" else border
    mode = str(more.get("mode", "constant"))
    if mode not in ("constant", "reflect"):
        raise UnknownOperatorError(f"Pad in mode {more.get('mode')}")
    number = float(more.get("value", 0.0) if value is None else np.asarray(value).reshape(-1)[0])
    if mode == "constant" and x.form == "turned" and border[3] == (0, 0):
        return like(x, padded(x.tensor, (border[1], border[2]), number))
    return like(x, ops.pad(x.tensor, border, mode, *([number] if mode == "constant" else [])))


# --- shapes ---------------------------------------------------------------------------------------------------


def flatten(x: Value, **attributes: Any) -> Value:
    """All numbers of an image in a row."""
    axis = int(attributes.get("axis", 1))
    if axis not in (1, 1 - x.rank):
        raise UnknownOperatorError(f"Flatten from axis {axis}")
    return flattened(x)


def reshape(x: Value, shape: Any_ | None = None, **attributes: Any) -> Value:
    """Another shape for the numbers of each image."""
    from keras import layers as nn

    target = attributes.get("shape", shape)
    if isinstance(target, Value) or target is None:
        raise UnknownOperatorError("Reshape to what is computed from the images")
    wanted = _resolved(x.shape, [int(n) for n in target])
    if wanted == x.shape:
        return x
    if len(wanted) == 2:
        return flattened(x)
    return made(nn.Reshape(wanted[1:])(plain(x).tensor))


def _resolved(shape: tuple[int, ...], target: list[int]) -> tuple[int, ...]:
    """The shape without 0 (the same) and -1 (the rest); what stands for the batch becomes 1."""
    size = math.prod(shape)
    wanted = [shape[at] if n == 0 and at < len(shape) else n for at, n in enumerate(target)]
    for first in (wanted[0], 1):
        tried = [first, *wanted[1:]]
        known = math.prod(n for n in tried if n != -1)
        if tried.count(-1) == 1 and known and size % known == 0:
            tried[tried.index(-1)] = size // known
        if tried[0] == 1 and math.prod(tried) == size:
            return tuple(tried)
    raise UnknownOperatorError(f"Reshape of {shape} to {target}, which mixes images")


def transpose(x: Value, **attributes: Any) -> Value:
    """The axes in another order; from and to channels last nothing is moved."""
    from keras import layers as nn

    order = tuple(attributes.get("perm", range(x.rank - 1, -1, -1)))
    if order == tuple(range(x.rank)):
        return x
    if order[0] != 0:
        raise UnknownOperatorError(f"Transpose by {order}, which moves the batch")
    if order == TURNED and x.form == "plain":
        return Value(x.tensor, "turned")
    if order == (0, 2, 3, 1) and x.form == "turned":
        return Value(x.tensor)
    return made(nn.Permute(order[1:])(plain(x).tensor))


def squeeze(x: Value, axes: Any_ | None = None, **attributes: Any) -> Value:
    """Without axes of length one."""
    chosen = _axes(x, attributes.get("axes", axes))
    if chosen is None:
        chosen = [axis for axis, n in enumerate(x.shape) if n == 1 and axis]
    return reshape(x, np.array([n for axis, n in enumerate(x.shape) if axis not in chosen]))


def unsqueeze(x: Value, axes: Any_ | None = None, **attributes: Any) -> Value:
    """With more axes of length one."""
    given = attributes.get("axes", axes)
    if given is None or isinstance(given, Value):
        raise UnknownOperatorError("Unsqueeze by what is computed from the images")
    rank = x.rank + len(given)
    places, dims = {int(axis) % rank for axis in given}, iter(x.shape)
    return reshape(x, np.array([1 if place in places else next(dims) for place in range(rank)]))


def _axes(x: Value, axes: Any) -> list[int] | None:
    if isinstance(axes, Value):
        raise UnknownOperatorError("axes computed from the images")
    return None if axes is None else [int(axis) % x.rank for axis in np.asarray(axes).reshape(-1)]


def concat(*values: Any_, **attributes: Any) -> Value:
    """Several values side by side."""
    from keras import layers as nn

    if any(not isinstance(value, Value) for value in values):
        raise UnknownOperatorError("Concat with constants")
    given = [value for value in values if isinstance(value, Value)]
    maps = given[0].rank == 4
    parts = [turned(value) if maps else plain(value) for value in given]
    axis = int(attributes["axis"]) % parts[0].rank
    return like(parts[0], nn.Concatenate(axis=_place(parts[0], axis))([value.tensor for value in parts]))


def _place(x: Value, axis: int) -> int:
    """Where an axis of ONNX's is held."""
    if axis == 0:
        raise UnknownOperatorError("an operator along the batch")
    return TURNED[axis] if x.form == "turned" else axis


def softmax(log: bool) -> Callable[..., Value]:
    """Softmax, or its logarithm, over one axis."""

    def run(x: Value, **attributes: Any) -> Value:
        from keras import layers as nn
        from keras import ops

        x = x if x.form in ("plain", "turned") else plain(x)
        axis = _place(x, int(attributes.get("axis", -1)) % x.rank)
        return like(x, ops.log_softmax(x.tensor, axis) if log else nn.Softmax(axis)(x.tensor))

    return run


def reduce(kind: str) -> Callable[..., Value]:
    """The mean, sum, largest or smallest along axes."""

    def run(x: Value, axes: Any_ | None = None, **attributes: Any) -> Value:
        from keras import layers as nn
        from keras import ops

        chosen = _axes(x, attributes.get("axes", axes))
        chosen = list(range(1, x.rank)) if chosen is None else chosen
        x, keep = (x if x.form in ("plain", "turned") else plain(x)), bool(attributes.get("keepdims", 1))
        if kind == "mean" and x.form == "turned" and sorted(chosen) == [2, 3]:
            tensor = nn.GlobalAveragePooling2D(keepdims=True)(x.tensor)
        else:
            tensor = getattr(ops, kind)(x.tensor, [_place(x, axis) for axis in chosen], keepdims=True)
        reduced = like(x, tensor)
        return reduced if keep else squeeze(reduced, np.array(chosen))

    return run


def take(x: Value, indices: Any_, **attributes: Any) -> Value:
    """The numbers at some places of an axis."""
    from keras import ops

    if isinstance(indices, Value):
        raise UnknownOperatorError("Gather at places computed from the images")
    x, axis = plain(x), int(attributes.get("axis", 0)) % x.rank
    if axis == 0:
        raise UnknownOperatorError("Gather along the batch")
    return made(ops.take(x.tensor, np.asarray(indices) % x.shape[axis], axis=axis))


def slices(x: Value, *limits: Any_, **attributes: Any) -> Value:
    """A part of each axis."""
    if any(isinstance(limit, Value) for limit in limits):
        raise UnknownOperatorError("Slice at places computed from the images")
    names = ("starts", "ends", "axes", "steps")
    given = {name: np.asarray(one).reshape(-1) for name, one in zip(names, limits, strict=False) if one is not None}
    given |= {name: np.asarray(attributes[name]) for name in names if name in attributes}
    x, axes = plain(x), given.get("axes", np.arange(len(given["starts"])))
    parts = [slice(None)] * x.rank
    for place, axis in enumerate(axes):
        step = int(given["steps"][place]) if "steps" in given else 1
        parts[int(axis) % x.rank] = _slice(int(given["starts"][place]), int(given["ends"][place]), step)
    if parts[0] not in (slice(None), slice(0, None, 1)):
        raise UnknownOperatorError("Slice of the batch")
    return made(x.tensor[(slice(None), *parts[1:])])


def _slice(start: int, end: int, step: int) -> slice:
    """ONNX says "to the end" by a number beyond it."""
    far = 1 << 30
    return slice(start, None if end >= far or end <= -far else end, step)


SHAPING: dict[str, Callable[..., Value]] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _global("GlobalAveragePooling2D"),
    "GlobalMaxPool": _global("GlobalMaxPooling2D"),
    "Pad": pad,
    "Flatten": flatten,
    "Reshape": reshape,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Softmax": softmax(log=False),
    "LogSoftmax": softmax(log=True),
    "ReduceMean": reduce("mean"),
    "ReduceSum": reduce("sum"),
    "ReduceMax": reduce("max"),
    "ReduceMin": reduce("min"),
    "Gather": take,
    "Slice": slices,
}
