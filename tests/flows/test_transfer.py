"""Saved images are found again by the settings that made them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from gauntlet.attacks import Pgd
from tasks.attack import _key, _saved


def test_images_of_two_settings_of_one_attack_do_not_overwrite_each_other() -> None:
    made: list[Any] = [
        SimpleNamespace(attack=Pgd(max_iter=steps), eps=eps, images=np.full(2, steps + eps), index=np.arange(2))
        for steps in (1, 40)
        for eps in (0.1, 0.2)
    ]
    saved = _saved(made)
    assert len(saved) == 2 * len(made)
    for result in made:
        np.testing.assert_array_equal(saved[f"images {_key(result.attack, result.eps)}"], result.images)
