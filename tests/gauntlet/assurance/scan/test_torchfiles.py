"""PyTorch's own files pass, whatever the network; what is not on the lists does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gauntlet.assurance.scan.models import scan
from gauntlet.assurance.scan.models.torchfiles import _is_arithmetic, _is_target, _is_tree

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: make test-all installs it")
nn: Any = torch.nn


class Residual(nn.Module):  # type: ignore[misc]
    """What image classifiers are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.deep = nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 10))

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.first((x - 0.5) / 0.25)
        x = x + torch.nn.functional.hardswish(self.deep(x)) * self.squeeze(x)
        x = torch.nn.functional.max_pool2d(torch.nn.functional.gelu(self.norm(x)), 2)
        return torch.log_softmax(self.head(x.mean([2, 3])), dim=1)


class Attending(nn.Module):  # type: ignore[misc]
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.head(self.layer(self.patches(x).flatten(2).transpose(1, 2))[:, 0])


def exported(module: Any, path: Path) -> None:
    dynamic = ({0: torch.export.Dim("n", min=2, max=512)},)
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=dynamic), path)


def scripted(module: Any, path: Path) -> None:
    torch.jit.save(torch.jit.script(module), str(path))


def traced(module: Any, path: Path) -> None:
    torch.jit.save(torch.jit.trace(module, torch.zeros(2, 3, 32, 32), check_trace=False), str(path))


def weighed(module: Any, path: Path) -> None:
    torch.save(module.state_dict(), path)


@pytest.mark.parametrize("kind", [Residual, Attending])
@pytest.mark.parametrize("save", [exported, scripted, traced, weighed])
def test_what_pytorch_writes_is_clean(kind: type, save: Callable[[Any, Path], None], tmp_path: Path) -> None:
    path = tmp_path / ("m.pt2" if save is exported else "m.pt")
    if kind is Attending and save is scripted:
        pytest.skip("its fast path is code that TorchScript cannot hold")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(kind().eval(), path)
    result = scan(path)
    assert not result.findings
    assert not result.errors


@pytest.mark.parametrize(
    "text", ["1", "s77", "2*Symbol('s77', positive=True, integer=True) + 1", "Max(1, s0)//2", "u3 >= 0"]
)
def test_sizes_are_arithmetic(text: str) -> None:
    assert _is_arithmetic(text)


@pytest.mark.parametrize(
    "text", ["__import__('os')", "eval", "s0.func", "Symbol('x')", "lambda: 0", "s0[0]", "''", 7, "f(1)"]
)
def test_anything_else_is_code(text: Any) -> None:
    assert not _is_arithmetic(text)


@pytest.mark.parametrize(("target", "known"), [
    ("torch.ops.aten.conv2d.default", True), ("_operator.getitem", True), ("torch.sym_max", True),
    ("torch.ops.aten.from_file.default", False), ("torch.ops.mine.conv2d.default", False), ("torch.hub.load", False),
    ("os.system", False), ("_operator.attrgetter", False), ("torch.ops.higher_order.cond", False),
])  # fmt: skip
def test_targets_are_on_the_list(target: str, known: bool) -> None:
    assert _is_target(target) is known


@pytest.mark.parametrize(("text", "known"), [
    ('[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]', True),
    ('[1, {"type": "builtins.dict", "context": "[\\"a\\"]", "children_spec": []}]', True),
    ('[1, {"type": "collections.defaultdict", "context": "null", "children_spec": []}]', False),
    ('[1, {"type": "builtins.dict", "context": "[{\\"__enum__\\": true}]", "children_spec": []}]', False),
    ("not JSON", False),
])  # fmt: skip
def test_results_are_tuples_lists_and_dicts(text: str, known: bool) -> None:
    assert _is_tree(text) is known
