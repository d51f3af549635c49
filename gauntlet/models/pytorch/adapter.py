"""What a PyTorch network expects and gives, found on clean images; what squashes its scores is taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gauntlet.errors import ModelError
from gauntlet.models.adapter import INVERTED, Expects, InputRange, Layout, Outputs, far
from gauntlet.models.blackbox import open_blackbox
from gauntlet.models.outputs import CHANGED, LOGITS, PROBABILITIES, SIGMOID, STEPS, TANH, decisions, kind_of
from gauntlet.models.pixels import AS_THEY_ARE, Channels
from gauntlet.models.pytorch.classifier import Logits, TorchClassifier, predicted
from gauntlet.models.pytorch.graph import exported
from gauntlet.models.pytorch.library import array, tensor
from gauntlet.models.pytorch.network import Network
from gauntlet.models.scale import temperature
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import torch

NEAR, FAR = 256, 64
"""Clean images, and images moved far away, on which outputs are looked at."""


@dataclass(frozen=True)
class Adapted:
    """A network that can be attacked, and what was found out about it; the fields are those of `adapter.Adapted`."""

    classifier: TorchClassifier
    input_range: str
    outputs: str
    layout: str
    better_range: str | None
    temperature: float


def adapt_network(
    network: Network,
    x: Images,
    y: Labels,
    n_classes: int,
    input_range: InputRange = "auto",
    outputs: Outputs = "auto",
    layout: Layout = "auto",
    channels: Channels = AS_THEY_ARE,
    output: str | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    accept_chance: bool = False,
) -> Adapted:
    """Make `network` attackable, by clean images `x` (n, h, w, c) in [0, 1] with labels `y` (n,).

    Layout and range are found as for any function of images, without gradients. `ModelError` when it does not fit.
    """
    if outputs == "labels":
        fix = "logits or probabilities; to hide them, give module:function instead"
        raise ModelError("a PyTorch model is attacked through its scores, not its labels", where="outputs", fix=fix)

    def function(images: Images) -> Images:
        return network.arrays(network.choose(images[:2], n_classes, output), images)

    asked = input_range, layout, outputs, bounds, channels
    opened = open_blackbox(function, x, y, n_classes, *asked, accept_chance=accept_chance)
    logits = _plain(network, opened.classifier.expects, x[:2], n_classes, output)
    near, away = x[:NEAR], far(x[:FAR])
    kind = LOGITS if outputs == "logits" else kind_of([_scores(logits, near), _scores(logits, away)])
    logits = logits if outputs == "logits" else _unsquashed(_as_graph(logits, near), near, away)
    free = kind_of([predicted(logits, near), predicted(logits, away)]) == LOGITS
    divisor = temperature(predicted(logits, near)) if free else 1.0
    classifier = TorchClassifier(replace(logits, temperature=divisor), x.shape[1:], n_classes, bounds)
    named = f"{kind}{INVERTED}" if logits.squashed else kind
    return Adapted(classifier, opened.input_range, named, opened.layout, opened.better_range, divisor)


def _plain(network: Network, way: Expects, x: Images, n_classes: int, output: str | None) -> Logits:
    """The network behind what brings images into its form; its scores are as they come."""
    unnamed = Logits(network, "", way)
    return replace(unnamed, output=network.choose(array(_given(unnamed, x)), n_classes, output))


def _given(logits: Logits, x: Images) -> torch.Tensor:
    """Images as the network takes them, where it is."""
    return logits.given(tensor(x, logits.network.device))


def _scores(logits: Logits, x: Images) -> Images:
    """The network's own scores, one for two classes as one."""
    return logits.network.arrays(logits.output, array(_given(logits, x)))


def _as_graph(logits: Logits, x: Images) -> Logits:
    """On the graph of the module, where it can be exported."""
    graph = exported(logits.network, _given(logits, x), logits.output)
    return replace(logits, network=graph) if graph else logits


def _unsquashed(logits: Logits, near: Images, away: Images) -> Logits:
    """Without the last steps that keep the order of the scores; what is squashed all the same is inverted."""
    decided = decisions(_scores(logits, near))
    for _ in range(STEPS):
        network = logits.network.shorter(logits.output)
        if network is None:
            break
        shorter = replace(logits, network=network)
        if (decisions(_scores(shorter, near)) != decided).mean() > CHANGED:
            break
        logits = shorter
    left = kind_of([_scores(logits, near), _scores(logits, away)])
    return replace(logits, squashed=left) if left in (PROBABILITIES, SIGMOID, TANH) else logits
