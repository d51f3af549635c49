"""A PyTorch model as a function: a batch as the model takes it in, all its outputs by name."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.errors import ModelError
from gauntlet.models.outputs import chosen
from gauntlet.models.pytorch.library import array, place, tensor
from gauntlet.threat import Images

if TYPE_CHECKING:
    import torch

Answers = dict[str, Any]
"""What a model gives, by name: tensors with a row per image, and perhaps other things."""


@dataclass(frozen=True)
class Network:
    """A model, whatever it was saved as."""

    answers: Callable[[torch.Tensor], Answers]
    text: str
    """What it computes: its graph, or its code."""
    state: Mapping[str, torch.Tensor]
    """Its weights, by name."""
    dtype: torch.dtype
    """Of the numbers it takes."""
    shorter: Callable[[str], Network | None] = lambda _: None
    """The same without the last step before an output; None where no step is known to keep the scores' order."""
    again: Callable[[], Network] | None = None
    """Makes the same with weights that are a copy; None where that is not possible."""
    module: Any = None
    """The module, where it may still be exported to a graph."""
    shape: tuple[int, ...] | None = None
    """Of an image, where the model says it."""

    @property
    def device(self) -> torch.device:
        """Where its weights are, and so where images must go; the processor where it has none."""
        import torch

        return next((one.device for one in self.state.values()), torch.device("cpu"))

    def copied(self) -> Network:
        """The same with weights of its own; `ModelError` for TorchScript, whose weights are part of the program."""
        if self.again is None:
            raise ModelError("the weights are part of the program, so that they cannot be trained", where="model")
        return self.again()

    def sizes(self, x: torch.Tensor) -> dict[str, int]:
        """The outputs that have a row per image, and how many numbers a row."""
        answer = self.answers(self._plain(x))
        rows = {name: one for name, one in answer.items() if getattr(one, "ndim", 0) and len(one) == len(x)}
        return {name: int(np.prod(one.shape[1:])) for name, one in rows.items()}

    def scores(self, x: torch.Tensor, output: str) -> torch.Tensor:
        """One output, float32 (n, k)."""
        answer: torch.Tensor = self.answers(self._plain(x))[output]
        return answer.float().reshape(len(x), -1)

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        """A copy in its own type and in PyTorch's usual order of memory.

        Turned images of one channel count as contiguous, but PyTorch takes them for channels last, and so does what
        convolutions make of them: a network that flattens by `view` then fails.
        """
        import torch

        return x.to(self.dtype).clone(memory_format=torch.contiguous_format)

    def arrays(self, output: str, x: Images) -> Images:
        """The same from and to arrays, without gradients."""
        import torch

        with torch.no_grad():
            return array(self.scores(tensor(x, self.device), output))

    def choose(self, x: Images, n_classes: int, output: str | None) -> str:
        """The name of the output that holds the scores; `ModelError` where none does, or several could."""
        import torch

        with torch.no_grad():
            return chosen(self.sizes(tensor(x, self.device)), n_classes, output)

    def ask(self, n: int) -> None:
        """Run it once on `n` grey images, if it says of what shape; what it answers is not looked at."""
        import torch

        if self.shape is not None:
            with torch.no_grad():
                self.answers(torch.full((n, *self.shape), 0.5, dtype=self.dtype, device=self.device))

    def digest(self) -> str:
        """SHA-256 (hex) over the graph or code, and over every weight's name, type, shape and bytes."""
        import torch

        sha = hashlib.sha256(self.text.encode())
        for name, one in self.state.items():
            sha.update(f"{name} {one.dtype} {tuple(one.shape)}".encode())
            numbers = one.detach().cpu().contiguous().flatten()
            sha.update(numbers.view(torch.uint8).numpy().tobytes() if numbers.numel() else b"")
        return sha.hexdigest()


def several(inputs: int) -> ModelError:
    """That a program takes more than images: what its other inputs are is not told by it."""
    fix = "save a module around it whose forward takes images alone"
    return ModelError(f"the model has {inputs} inputs, expected one of images", where="model", fix=fix)


def named(answer: Any) -> Answers:
    """A tensor, dict, tuple or object with tensors for attributes, by name; a single tensor is called `output`."""
    if isinstance(answer, Mapping):
        return {str(name): value for name, value in answer.items()}
    if hasattr(answer, "_asdict"):
        return dict(answer._asdict())
    if isinstance(answer, list | tuple):
        return {str(place): value for place, value in enumerate(answer)}
    return {"output": answer} if hasattr(answer, "ndim") or not hasattr(answer, "__dict__") else dict(vars(answer))


def of_module(module: Any) -> Network:
    """A `torch.nn.Module` in evaluation mode; its weights become float32 and learn no more.

    One that is on a GPU stays there; any other goes where networks are put.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"it is a {type(module).__name__}, not a torch.nn.Module", where="model")
    if isinstance(module, torch.nn.DataParallel):
        module = module.module
    module = getattr(module, "_orig_mod", module)  # compiling it again, for every shape of a batch, takes minutes
    there = next((one.device for one in state_of(module).values() if one.device.type != "cpu"), place())
    module = module.to(there).eval().float().requires_grad_(False)
    return Network(
        lambda x: named(module(x)),
        _source(module),
        state_of(module),
        torch.float32,
        again=lambda: of_module(copy.deepcopy(module)),
        module=module,
    )


def state_of(module: Any) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _source(module: Any) -> str:
    """The structure of a module and the code of every class in it."""
    kinds = dict.fromkeys(type(part) for part in module.modules())
    return "\n".join([repr(module), *(_code(kind) for kind in kinds)])


def _code(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # made on the fly
        return kind.__qualname__
