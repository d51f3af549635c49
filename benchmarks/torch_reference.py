"""The other half of benchmarks/reference.py, for a Python that has PyTorch and pyautoattack; imports nothing of ours.

    python benchmarks/torch_reference.py IN.npz OUT.npz

IN.npz holds images, labels, logits, weights and, as JSON, layers and settings. OUT.npz gets the largest difference to
those logits and, for every attack and budget, which images are still classified correctly, and the seconds it took:
elapsed, and of the processor.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from pyautoattack import AutoAttack  # type: ignore[import-not-found]
from torch import nn

BATCH = 250
"""Images attacked at once: the reference's default."""
ROOM = 1e-6
"""For float32 rounding of a perturbation."""


def network(layers: list[dict[str, Any]], arrays: Any) -> Any:
    """The network of a layer list, channels first; weights come in PyTorch's own order."""
    modules: list[Any] = []
    for number, layer in enumerate(layers):
        weights = [torch.tensor(arrays[f"{number}.{name}"]) for name in layer.get("weights", ())]
        modules += [_module(layer, *weights)]
        modules += [nn.ReLU()] if layer.get("activation") == "relu" else []
    net = nn.Sequential(*modules).eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net


def _module(layer: dict[str, Any], kernel: Any = None, bias: Any = None) -> Any:
    if layer["kind"] == "pool":
        return nn.MaxPool2d(layer["size"], layer["strides"])
    if layer["kind"] == "flatten":
        return nn.Flatten()
    if layer["kind"] == "conv":
        outputs, inputs, *size = kernel.shape
        made = nn.Conv2d(inputs, outputs, size, layer["strides"], layer["padding"])
    else:
        made = nn.Linear(kernel.shape[1], kernel.shape[0])
    made.weight, made.bias = nn.Parameter(kernel), nn.Parameter(bias)
    return made


def suite(net: Any, eps: float, attacks: list[str], settings: dict[str, Any]) -> Any:
    """AutoAttack's standard version, narrowed down to some of its attacks."""
    attack = AutoAttack(net, eps=eps, norm="Linf", seed=settings["seed"], version="standard")
    attack.attacks_to_run = attacks
    attack.square.n_queries = settings["queries"]
    attack.square.rescale_schedule = settings["rescale"]
    return attack


def robust(net: Any, x: Any, y: Any, eps: float, attacks: list[str], settings: dict[str, Any]) -> tuple[Any, Any]:
    """Which images stay correct, and the seconds that took: elapsed, and of the processor."""
    attack, started = suite(net, eps, attacks, settings), _clocks()
    images, _ = attack.run_standard_evaluation(x, y, batch_size=BATCH)
    seconds = _clocks() - started
    worst = float((images - x).abs().max())
    if worst > eps + ROOM or not 0 <= float(images.min()) <= float(images.max()) <= 1:
        raise SystemExit(f"the reference's {attacks} left the budget {eps:g} by {worst - eps:g} or the bounds")
    return (logits(net, images).argmax(dim=1) == y).numpy(), seconds


def _clocks() -> Any:
    return np.array([time.perf_counter(), time.process_time()])


def logits(net: Any, x: Any) -> Any:
    """Logits (n, n_classes), batch by batch."""
    with torch.no_grad():
        return torch.cat([net(batch) for batch in x.split(BATCH)])


def main(source: str, target: str) -> None:
    """Read, rebuild, attack, write."""
    arrays = np.load(source)
    facts = json.loads(str(arrays["json"]))
    torch.set_num_threads(facts["threads"])
    net = network(facts["layers"], arrays)
    x = torch.tensor(arrays["x"].transpose(0, 3, 1, 2).copy())
    y = torch.tensor(arrays["y"])
    apart = np.abs(logits(net, x).numpy() - arrays["logits"]).max()
    if apart > facts["close"]:
        raise SystemExit(f"the rebuilt network's logits differ by {apart:.2g}, more than {facts['close']:g}")
    results = {"logits_difference": apart}
    for eps in facts["eps"]:
        for name, attacks in facts["attacks"].items():
            hits, seconds = robust(net, x, y, eps, attacks, facts)
            results |= {f"{name}@{eps:g}": hits, f"{name}@{eps:g}.seconds": seconds}
            line = f"reference: {name} at {eps:g}: {100 * hits.mean():.2f} %, {seconds[0]:.1f} s"
            print(line, file=sys.stderr, flush=True)
    np.savez(target, **results)


if __name__ == "__main__":
    main(*sys.argv[1:3])
