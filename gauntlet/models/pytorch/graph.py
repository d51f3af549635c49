"""The graph of an exported program: one input, outputs by name, last steps that can be taken away."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gauntlet.errors import ModelError
from gauntlet.models.outputs import keeps_order
from gauntlet.models.pytorch.library import place
from gauntlet.models.pytorch.network import Answers, Network, named, several, state_of

if TYPE_CHECKING:
    import torch

RANDOM = ("bernoulli", "rand", "normal", "dropout_", "native_dropout", "multinomial")
"""Operations whose results differ from call to call."""


def of_program(program: Any) -> Network:
    """A program of `torch.export`; `ModelError` for one that takes several inputs, or was exported while training."""
    module = _placed(program).module(check_guards=False)  # guards are code, which would be run
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise several(len(inputs))
    for node in module.graph.nodes:
        if _is_training(node):
            fix = "call model.eval() before torch.export.export"
            raise ModelError(f"it was exported while training ({_name(node)})", where="model", fix=fix)
    names, example = _names(program), inputs[0].meta["val"]
    _stripped(module)
    module.requires_grad_(False)
    return _network(module, names, state_of(module), example)


def exported(network: Network, x: Any, output: str) -> Network | None:
    """A module as the graph of its program, if it can be exported and gives the same scores for `x`; else None."""
    import torch

    if network.module is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dynamic = ({0: torch.export.Dim.AUTO},)
            graph = of_program(torch.export.export(network.module, (x,), dynamic_shapes=dynamic))
            expected, got = network.scores(x, output), graph.scores(x, output)
    except Exception:  # what a module does with its input is anyone's
        return None
    return graph if torch.allclose(expected, got, rtol=1e-4, atol=1e-4) else None


def _network(module: Any, names: list[str], state: Any, example: torch.Tensor) -> Network:
    def shorter(output: str) -> Network | None:
        made = _without_last(module, names.index(output))
        return None if made is None else _network(made, names, state, example)

    def again() -> Network:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's own calls
            made = copy.deepcopy(module)
        return _network(made, names, state_of(made), example)

    shape = tuple(n if isinstance(n, int) else 32 for n in example.shape[1:])
    batch = example.shape[0] if isinstance(example.shape[0], int) else None
    run = _any_batch(module, batch)
    answers = lambda x: _answers(run, names, x, example)  # noqa: E731
    return Network(answers, module.code, state, example.dtype, shorter, again, shape=shape)


def _answers(run: Callable[..., Any], names: list[str], x: torch.Tensor, example: torch.Tensor) -> Answers:
    wanted = example.shape[1:]
    fits = len(x.shape) == len(example.shape)
    if not fits or any(isinstance(n, int) and n != m for n, m in zip(wanted, x.shape[1:], strict=True)):
        raise ValueError(f"the model takes images of shape {tuple(wanted)}, got {tuple(x.shape[1:])}")
    return dict(zip(names, run(x), strict=True))


def _any_batch(module: Any, batch: int | None) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """A graph that was exported for so many images, for any number of them."""
    import torch

    if batch is None:
        return lambda x: module(x)
    if batch == 1:
        return torch.vmap(lambda one: tuple(answer[0] for answer in module(one[None])))

    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        filled = torch.cat([x, x[:1].expand(-len(x) % batch, *x.shape[1:])])
        parts = [module(part) for part in filled.split(batch)]
        return tuple(torch.cat(column)[: len(x)] for column in zip(*parts, strict=True))

    return run


def _placed(program: Any) -> Any:
    """Moved to where networks are put, with the tensors that it makes itself."""
    from torch.export.passes import move_to_device_pass

    return program if place().type == "cpu" else move_to_device_pass(program, place())


# --- a program's parts ----------------------------------------------------------------------------------------


def _names(program: Any) -> list[str]:
    """The outputs' names, in the order in which the graph has them; a nested one by its place."""
    from torch.utils._pytree import tree_unflatten

    spec = program.call_spec.out_spec
    places = named(tree_unflatten(list(range(spec.num_leaves)), spec))
    by_place = {place: name for name, place in places.items() if isinstance(place, int)}
    return [by_place.get(place, str(place)) for place in range(spec.num_leaves)]


def _stripped(module: Any) -> None:
    """From tensor to tuple of tensors, without what rebuilds dicts and without checks that a batch has one size."""
    from torch.fx.graph import CodeGen

    graph = module.graph
    for node in [node for node in graph.nodes if node.op == "call_module" and node.target == "_guards_fn"]:
        graph.erase_node(node)
    graph.set_codegen(CodeGen())
    (out,) = [node for node in graph.nodes if node.op == "output"]
    out.args = (tuple(out.all_input_nodes) if not isinstance(out.args[0], list | tuple) else tuple(out.args[0]),)
    module.recompile()


def _name(node: Any) -> str:
    return str(getattr(node.target, "__name__", node.target)).removesuffix(".default")


def _is_training(node: Any) -> bool:
    """Whether a step behaves as it does in training."""
    if node.op != "call_function":
        return False
    name = _name(node)
    if "dropout" in name or name.startswith("batch_norm"):
        flag = 2 if "dropout" in name else 5
        return len(node.args) > flag and node.args[flag] is True
    return name.startswith(RANDOM) or ("batch_norm_legit" in name and "no_training" not in name)


def _without_last(module: Any, place: int) -> Any:
    """The graph without the step that makes an output, if it is one that keeps the order of its one input's numbers."""
    made = copy.copy(module)
    made.graph = copy.deepcopy(module.graph)
    (out,) = [node for node in made.graph.nodes if node.op == "output"]
    last = out.args[0][place]
    given = last.all_input_nodes if hasattr(last, "all_input_nodes") else []
    if last.op != "call_function" or len(given) != 1 or not _is_scores(given[0], last):
        return None
    if not keeps_order(lambda scores: _step(last, given[0], scores), (None, *last.meta["val"].shape[1:])):
        return None
    out.args = (tuple(given[0] if at == place else node for at, node in enumerate(out.args[0])),)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made


def _is_scores(before: Any, after: Any) -> bool:
    """Whether a step gives numbers of the same shape as it takes."""
    one, other = before.meta.get("val"), after.meta.get("val")
    shapes = [getattr(value, "shape", ()) for value in (one, other)]
    return len(shapes[0]) > 1 and shapes[0][1:] == shapes[1][1:] and all(isinstance(n, int) for n in shapes[0][1:])


def _step(node: Any, given: Any, scores: Any) -> Any:
    """One step on other numbers."""
    import torch

    numbers = torch.from_numpy(scores)
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda one: numbers if one is given else one)
    return node.target(*args, **kwargs).numpy()
