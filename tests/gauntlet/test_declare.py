"""Settings as text, on the command line and in a flow's form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from gauntlet.attacks import ATTACKS, PRESETS, Attack, Attacks, Fgsm, GaussianNoise, Pgd, attack, parse
from gauntlet.declare import Registry
from gauntlet.defenses.training import DEFENSES
from gauntlet.errors import SettingError
from tests.gauntlet.attacking import CASES, name_of

every_attack = pytest.mark.parametrize("case", CASES, ids=name_of)
several = TypeAdapter(Attacks).validate_python


def _text(case: Attack) -> str:
    """What one would type for it: every setting that has a value."""
    settings = {key: value for key, value in case.model_dump(exclude={"name"}).items() if value is not None}
    pairs = [
        f"{key}=[{','.join(map(str, v))}]" if isinstance(v, tuple) else f"{key}={v}" for key, v in settings.items()
    ]
    return f"{case.name}:{','.join(pairs)}"


@every_attack
def test_text_and_mapping_give_the_attack_back(case: Attack) -> None:
    assert parse(_text(case)) == case
    assert attack(_text(case)) == case
    assert attack(case.model_dump(mode="json")) == case


@pytest.mark.parametrize("name", ATTACKS)
def test_a_bare_name_means_the_defaults(name: str) -> None:
    assert parse(name) == parse(f"{name}:") == ATTACKS[name]()


@pytest.mark.parametrize("name", ATTACKS)
def test_every_setting_says_what_it_is(name: str) -> None:
    fields = ATTACKS[name].model_fields
    assert all(field.description for key, field in fields.items() if key != "name")


def test_settings_in_text_are_used() -> None:
    assert parse("pgd:max_iter=7,eps_step=0.01,norm=2") == Pgd(max_iter=7, eps_step=0.01, norm="2")
    assert parse("noise-gaussian:std=[0.1,0.25]") == GaussianNoise(std=(0.1, 0.25))
    assert parse("noise-gaussian:std=[1/10,0.25]") == GaussianNoise(std=(0.1, 0.25))
    assert DEFENSES.parse("pgd-training:eps=8/255").eps == 8 / 255
    assert parse("noise-gaussian:std=0.1") == parse("noise-gaussian:std=[0.1]") == GaussianNoise(std=(0.1,))
    assert parse("pgd:early_stop=false,target=3") == Pgd(early_stop=False, target=3)


def test_old_names_are_understood() -> None:
    assert parse("gaussian-noise") == attack({"name": "gaussian-noise"}) == GaussianNoise()
    assert parse("gaussian-noise:std=[0.2]") == GaussianNoise(std=(0.2,))


def test_what_is_no_text_passes_unchanged() -> None:
    case = Pgd(max_iter=3)
    assert parse(case) is case
    assert parse({"name": "pgd"}) == {"name": "pgd"}
    assert parse(None) is None


WRONG = {
    "deepfool-9000": "attack: unknown attack 'deepfool-9000' (one of noise-uniform, noise-gaussian, fgsm, pgd",
    "": "unknown attack ''",
    "pgd:steps=4": "'steps=4' is not a setting of pgd (key=value with norm, target, eps_step, max_iter, ",
    "pgd:max_iter": "'max_iter' is not a setting of pgd",
    "pgd:max_iter=0": "pgd:max_iter: Input should be greater than or equal to 1, got '0'",
    "pgd:max_iter=ten": "pgd:max_iter: Input should be a valid integer",
    "pgd:eps_step=-1": "pgd:eps_step: Input should be greater than 0",
    "pgd:eps_step=nan": "pgd:eps_step: Input should be",
    "pgd:library=torch": "pgd:library: Input should be 'gauntlet', 'art' or 'foolbox', got 'torch'",
    "fgsm:norm=7": "fgsm:norm: Input should be 'inf' or '2', got '7'",
    "fgsm:name=pgd": "'name=pgd' is not a setting of fgsm (key=value with norm, target, library)",
    "cw-l2:norm=inf": "cw-l2:norm: Input should be '2', got 'inf'",
    "deepfool:target=3": "'target=3' is not a setting of deepfool",
    "spatial:strength=2": "spatial:strength: Input should be less than or equal to 1",
    "gaussian-noise:std=[]": "noise-gaussian:std: Input should be a valid number",
    "gaussian-noise:std=[0.1,99]": "noise-gaussian:std: Input should be less than or equal to 10",
    "gaussian-noise:std=[0.1,0.2": "noise-gaussian:std: Input should be a valid number",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_a_wrong_declaration_is_one_line_that_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        attack(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_preset_stands_for_its_attacks() -> None:
    names = ("apgd-ce", "apgd-dlr", "fab", "square")
    assert PRESETS["autoattack"] == names
    assert tuple(one.name for one in several("autoattack")) == names
    assert tuple(one.name for one in several(["fgsm", "autoattack"])) == ("fgsm", *names)


def test_one_attack_or_several_of_any_kind() -> None:
    assert several("pgd:max_iter=3") == several(["pgd:max_iter=3"]) == (Pgd(max_iter=3),)
    assert several({"name": "fgsm"}) == several(Fgsm()) == (Fgsm(),)
    assert several([Fgsm(), {"name": "pgd"}, "gaussian-noise"]) == (Fgsm(), Pgd(), GaussianNoise())
    assert several([]) == ()


@pytest.mark.parametrize("wrong", [3, None, [3], {"name": "nothing"}])
def test_what_names_no_attack_is_refused(wrong: Any) -> None:
    with pytest.raises((ValidationError, SettingError)):
        several(wrong)


class _Thing(BaseModel):
    name: str = "thing"
    pair: tuple[int, ...] = Field((1,), description="Whole numbers")
    size: float | None = None


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("thing:pair=1", _Thing(pair=(1,))),
        ("thing:pair=[1,2],size=3", _Thing(pair=(1, 2), size=3)),
        ("thing:size=1e-3,", _Thing(size=0.001)),
    ],
)
def test_any_registry_is_read_alike(text: str, thing: _Thing) -> None:
    assert Registry("thing", _Thing, _Thing).make(text) == thing


# --- classes of other packages ------------------------------------------------------------------------------

SOURCE = """
from typing import ClassVar, Literal
from pydantic import Field
from gauntlet.attacks import Attack, Crafted
import numpy as np

class Grey(Attack):
    name: Literal["grey"] = "grey"
    norm: Literal["inf"] = Field("inf", description="Norm of the budget")
    amount: float = Field(1.0, ge=0, le=1, description="Share of the way to grey")
    place: ClassVar[int] = 150

    def craft(self, model, x, y, eps, streams):
        return Crafted(x + eps * self.amount * np.sign(0.5 - x), np.ones(len(x), np.int64))

class Melts(Grey):
    name: Literal["melts"] = "melts"
    model_config = {"frozen": False}

Number = 3
Again = Grey
"""
ENTRIES = """
[gauntlet.attacks]
again = outside:Again
grey = outside:Grey
melts = outside:Melts
number = outside:Number
gone = nowhere:Grey
"""
ASKED = """
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from gauntlet.attacks import ATTACKS, attack
    from gauntlet.declare import plugins
    from gauntlet.evaluation.battery import Battery
order = [one.name for one in Battery(attack=["pgd", "grey", "fgsm"], eps=(0.1,), cascade=True).ordered()]
told = [str(one.message) for one in caught if "left out" in str(one.message)]
print(json.dumps({"order": order, "amount": attack("grey:amount=0.5").amount, "told": told, "plugins": plugins()}))
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder as pip leaves it: another package's module and its entry points."""
    (tmp_path / "outside.py").write_text(SOURCE)
    info = tmp_path / "outside-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return tmp_path


def test_an_attack_of_another_package_joins_by_its_entry_point(outside: Path) -> None:
    path = os.pathsep.join([str(outside), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", ASKED]
    ended = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    answer = json.loads(ended.stdout)
    assert answer["order"] == ["fgsm", "grey", "pgd"]
    assert answer["amount"] == 0.5
    assert answer["plugins"] == {"outside": "1.2"}
    assert answer["told"] == [
        "attack 'grey' of outside 1.2 is left out: the name 'grey' is taken",
        "attack 'melts' of outside 1.2 is left out: its settings can be changed: it must be frozen",
        "attack 'number' of outside 1.2 is left out: it is no Attack",
        "attack 'gone' of outside 1.2 is left out: ModuleNotFoundError: No module named 'nowhere'",
    ]
