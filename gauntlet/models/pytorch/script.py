"""TorchScript: a program of its own language, with a graph whose last steps can be taken away."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gauntlet.models.pytorch.network import Network, named, several

if TYPE_CHECKING:
    import torch

SQUASHING = ("aten::softmax", "aten::log_softmax", "aten::sigmoid", "aten::tanh")
"""Steps that keep the order of scores (of all classes of an image, which is looked at)."""
SCALING = ("aten::div", "aten::mul")
"""The same where the other number is a constant."""


def of_script(module: Any) -> Network:
    """A module of `torch.jit.load`, in evaluation mode."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        module = module.eval().float()
        frozen = torch.jit.freeze(module)
    inputs = list(frozen.graph.inputs())[1:]
    if len(inputs) != 1:
        raise several(len(inputs))
    state = dict(module.named_parameters()) | dict(module.named_buffers()) | dict(_constants(module.inlined_graph))
    return _network(frozen, frozen.graph.copy(), _text(module), state)


def _network(frozen: Any, graph: Any, text: str, state: Any) -> Network:
    import torch

    function = torch._C._create_function_from_graph("forward", graph)
    run = _any_batch(lambda x: function(frozen._c, x))

    def shorter(_: str) -> Network | None:
        made = _without_last(graph.copy())
        return None if made is None else _network(frozen, made, text, state)

    return Network(run, text, state, torch.float32, shorter)


def _text(module: Any) -> str:
    """The graph, without the numbers that classes of one name are given in this process."""
    return re.sub(r"___torch_mangle_\d+\.?", "", module.inlined_graph.str(False))


def _constants(graph: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that are part of the code; the text shows only the small ones."""
    for place, node in enumerate(graph.findAllNodes("prim::Constant")):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            yield f"constant {place}", node.t("value")


def _any_batch(run: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    """A traced program may have kept the size of its example's batch: then images are given one by one."""
    import torch

    alone: list[bool] = []

    def one_by_one(x: torch.Tensor) -> Any:
        rows = [named(run(x[place : place + 1])) for place in range(len(x))]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def answers(x: torch.Tensor) -> Any:
        if not alone:
            alone.append(not _same(run, x))
        return one_by_one(x) if alone[0] else named(run(x))

    return answers


def _same(run: Callable[[torch.Tensor], Any], x: torch.Tensor) -> bool:
    """Whether three images together give what each gives alone."""
    import torch

    three = torch.cat([x[:1], x[-1:], x[:1].flip(-1)])
    single = [named(run(one[None])) for one in three]
    try:
        together = named(run(three))
    except RuntimeError:
        return False
    return all(_is_row(together[name], row[name], place) for place, row in enumerate(single) for name in row)


def _is_row(together: torch.Tensor, alone: torch.Tensor, place: int) -> bool:
    import torch

    if not alone.ndim:  # no answer about an image
        return True
    return len(together) == 3 and torch.allclose(together[place : place + 1], alone, rtol=1e-3, atol=1e-4)


def _without_last(graph: Any) -> Any:
    """The graph without the step that makes its one output; None where that step may change the scores' order."""
    outputs = list(graph.outputs())
    last = outputs[0].node()
    given = list(last.inputs())
    if len(outputs) != 1 or last.kind() not in SQUASHING + SCALING or not _over_classes(last):
        return None
    if last.kind() in SCALING and not (isinstance(given[1].toIValue(), float | int) and given[1].toIValue() > 0):
        return None
    graph.eraseOutput(0)
    graph.registerOutput(given[0])
    return graph


def _over_classes(node: Any) -> bool:
    """Whether a softmax goes over the second or last axis."""
    return "softmax" not in node.kind() or list(node.inputs())[1].toIValue() in (1, -1)
