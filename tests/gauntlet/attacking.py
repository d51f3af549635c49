"""What the tests of attacks share: every attack with cheap settings, fake models, and a share of fooled images."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import ValidationError

from gauntlet.attacks import ATTACKS, Attack, Crafted
from gauntlet.models.access import Access
from gauntlet.threat import Images, Labels

CHEAP = {"max_iter": 5, "max_eval": 20, "init_eval": 20, "binary_search_steps": 2}
CHEAP |= {"targets": 2, "candidates": 3, "angles": 3, "shifts": 3}
"""Settings that make an attack cheap, whatever it is: none is raised by them."""


def quick(case: Attack) -> Attack:
    """The same attack with little to do."""
    settings = {name: min(getattr(case, name), few) for name, few in CHEAP.items() if hasattr(case, name)}
    # It asks for labels one by one.
    return case.model_copy(update=settings | ({"max_iter": 1} if case.access == "labels" else {}))


def variants(kind: type[Attack]) -> list[Attack]:
    """An attack in every norm, and in both from every library that has it."""
    libraries: list[dict[str, Any]] = [{}]
    if "library" in kind.model_fields:
        libraries = [{"library": name} for name in ("gauntlet", "art", "foolbox") if _takes(kind, library=name)]
    norms = [norm for norm in ("inf", "2") if _takes(kind, norm=norm)]
    return [kind(norm=norm, **library) for library in libraries for norm in norms] or [kind()]


def _takes(kind: type[Attack], **settings: Any) -> bool:
    try:
        kind(**settings)
    except ValidationError:
        return False
    return True


# A newcomer to ATTACKS is in this list, and thereby in every test that names no attack.
CASES = [quick(case) for kind in ATTACKS.values() for case in variants(kind)]


def name_of(case: Any) -> str:
    """What a test of an attack is called."""
    if not isinstance(case, Attack):
        return str(case)
    return "-".join([case.name, case.norm, *([case.library] if hasattr(case, "library") else [])])


def usual(case: Attack) -> float:
    """The smallest budget that the attack is usually run at on grey images."""
    return case.budgets((), 1)[0]


def alone(case: Attack) -> bool:
    """Whether it promises each image the same in every batch: a library that draws for a whole batch cannot."""
    return getattr(case, "library", "gauntlet") == "gauntlet" or not getattr(case, "num_random_init", 0)


def fooled(model: Any, case: Attack, x: Images, y: Labels, eps: float, seed: int = 0) -> np.ndarray:
    """Of the images that are correct clean, which are wrong when attacked."""
    return judged(model, case.run(model, x, y, eps, seed), x, y)


def judged(model: Any, made: Crafted, x: Images, y: Labels) -> np.ndarray:
    """The same of images that are made already."""
    return (model.labels(made.images) != y)[model.labels(x) == y]


class Seen:
    """A model that shows scores, or only labels: whoever asks for more than `access` finds no such attribute."""

    def __init__(self, model: Any, access: Access) -> None:
        self.access, self._model = access, model
        self.nb_classes, self.input_shape, self.clip_values = model.nb_classes, model.input_shape, model.clip_values
        self.asked: list[Images] = []

    def predict(self, x: Images, **_: Any) -> Images:
        assert self.access == "scores", "scores were asked of a model that shows labels"
        self.asked.append(x)
        return np.asarray(self._model.predict(x))

    def labels(self, x: Images) -> Labels:
        self.asked.append(x)
        return np.asarray(self._model.labels(x))
