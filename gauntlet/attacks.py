"""Every evasion attack, one small class each, and ATTACKS.

An attack declares its settings and writes its maths in `craft`; the base keeps the promises: images stay within
bounds and budget, NaN and wrong shapes are refused, success is counted elsewhere and never by the attack itself.
Adding one is adding one class here and its name to `ATTACKS`: the command line, the flows' parameters, the logged
params, the report and the tests follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from gauntlet.errors import AttackError, SettingError
from gauntlet.threat import Images, Labels, Norm, ThreatModel, check_batch, default_budgets, lengths

if TYPE_CHECKING:
    from gauntlet.classifier import CompiledClassifier

UNBOUNDED = "std"
"""The norm of noise that is drawn, not bounded: its budget is a standard deviation."""


class Attack(BaseModel, ABC):
    """Settings of an attack; its budget `eps` comes with each call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    norm: str
    iterative: ClassVar[bool] = False
    """Whether it takes many gradient steps an image; such attacks default to 1,000 test images."""
    adversary: ClassVar[bool] = True
    """False for the floors that any adversary must beat: they never count in a worst case."""

    @abstractmethod
    def craft(
        self, classifier: CompiledClassifier, x: Images, y: Labels, eps: float, rng: np.random.Generator
    ) -> Images:
        """Adversarial images for `x` (n, h, w, c) with true labels `y` (n,), aimed at a budget of `eps`."""

    def run(self, classifier: CompiledClassifier, x: Images, y: Labels, eps: float, seed: int) -> Images:
        """`craft`, seeded, then held to the threat model; `AttackError` when the result is not one."""
        threat = ThreatModel(norm=self.norm, eps=eps, bounds=classifier.clip_values)
        raw = self.craft(classifier, x, y, eps, np.random.default_rng(seed))
        check_batch(raw, x)
        adversarial = threat.project(raw, x)
        threat.check(adversarial, x)
        return adversarial

    def budgets(self, asked: Sequence[float], channels: int) -> tuple[float, ...]:
        """The budgets to try: those asked for, else the literature's for this norm."""
        return tuple(asked) or default_budgets(self.norm, channels)

    def check_budget(self, eps: float) -> None:
        """Raise `SettingError` for a budget that cannot be meant."""
        largest = 1.0 if self.norm == "inf" else 100.0
        if not 0 < eps <= largest:
            raise SettingError(
                f"a budget of {eps:g} is not in (0, {largest:g}]",
                where=f"eps of {self.name}",
                fix="eps is in units of the pixel range [0, 1]: write 8/255 as 0.03137",
            )


Library = Literal["art", "foolbox"]


class Fgsm(Attack):
    """Fast gradient sign method, one step of the full budget (Goodfellow et al. 2015, section 4)."""

    name: Literal["fgsm"] = "fgsm"
    norm: Norm = Field("inf", description="Norm of the budget")
    library: Library = Field("art", description="Whose implementation; the images are the same")

    def craft(
        self, classifier: CompiledClassifier, x: Images, y: Labels, eps: float, rng: np.random.Generator
    ) -> Images:
        """FastGradientMethod with true labels and no random start."""
        if self.library == "foolbox":
            kind = {"inf": "LinfFastGradientAttack", "2": "L2FastGradientAttack"}[self.norm]
            return _foolbox(kind, classifier, x, y, eps, rng, random_start=False)
        from art.attacks.evasion import FastGradientMethod

        from gauntlet.classifier import CHUNK

        attack = FastGradientMethod(classifier, norm=_art(self.norm), eps=eps, num_random_init=0, batch_size=CHUNK)
        return attack.generate(x, y=one_hot(y, classifier.nb_classes))


class Pgd(Attack):
    """Projected gradient descent from a random start (Madry et al. 2018, section 2.1)."""

    name: Literal["pgd"] = "pgd"
    norm: Norm = Field("inf", description="Norm of the budget")
    eps_step: float | None = Field(None, gt=0, description="Step size; 2.5 eps / max_iter when not given")
    max_iter: int = Field(40, ge=1, le=10_000, description="Gradient steps of each start")
    num_random_init: int = Field(1, ge=0, le=100, description="Random starts; 0 starts at the clean image")
    library: Library = Field("art", description="Whose implementation; only the random starts differ")
    iterative: ClassVar[bool] = True

    def craft(
        self, classifier: CompiledClassifier, x: Images, y: Labels, eps: float, rng: np.random.Generator
    ) -> Images:
        """ART's ProjectedGradientDescentTensorFlowV2, which draws its starts from NumPy's global generator."""
        if self.library == "foolbox":
            return self._with_foolbox(classifier, x, y, eps, rng)
        from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_tensorflow_v2 import (
            ProjectedGradientDescentTensorFlowV2,
        )

        from gauntlet.classifier import CHUNK

        attack = ProjectedGradientDescentTensorFlowV2(
            classifier,
            norm=_art(self.norm),
            eps=eps,
            eps_step=self.step(eps),
            max_iter=self.max_iter,
            num_random_init=self.num_random_init,
            batch_size=CHUNK,
            verbose=False,
        )
        with global_seed(rng):
            return np.asarray(attack.generate(x, y=one_hot(y, classifier.nb_classes)))

    def _with_foolbox(
        self, classifier: CompiledClassifier, x: Images, y: Labels, eps: float, rng: np.random.Generator
    ) -> Images:
        kind = {"inf": "LinfProjectedGradientDescentAttack", "2": "L2ProjectedGradientDescentAttack"}[self.norm]
        settings: dict[str, Any] = {"abs_stepsize": self.step(eps), "steps": self.max_iter}
        starts = max(1, self.num_random_init)
        settings |= {"random_start": self.num_random_init > 0}
        return _foolbox(kind, classifier, x, y, eps, rng, repeats=starts, **settings)

    def step(self, eps: float) -> float:
        """The step size for a budget: 2.5 eps / max_iter reaches the ball's border from anywhere in it (Madry)."""
        return self.eps_step or min(eps, 2.5 * eps / self.max_iter)


class GaussianNoise(Attack):
    """Gaussian noise, clipped to the bounds: no adversary, the floor that every attack must beat."""

    name: Literal["gaussian-noise"] = "gaussian-noise"
    norm: Literal["std"] = Field("std", description="Noise is drawn, not bounded: its budget is a standard deviation")
    std: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.1, 0.3), min_length=1, description="Standard deviations in units of the pixel range"
    )
    adversary: ClassVar[bool] = False

    def craft(
        self, classifier: CompiledClassifier, x: Images, y: Labels, eps: float, rng: np.random.Generator
    ) -> Images:
        """`x` plus noise of standard deviation `eps`."""
        return x + eps * rng.standard_normal(x.shape, dtype=np.float32)

    def run(self, classifier: CompiledClassifier, x: Images, y: Labels, eps: float, seed: int) -> Images:
        """Noisy images within the bounds; there is no budget to hold them to."""
        noisy = self.craft(classifier, x, y, eps, np.random.default_rng(seed))
        check_batch(noisy, x)
        return np.clip(noisy, *classifier.clip_values).astype(np.float32)

    def budgets(self, asked: Sequence[float], channels: int) -> tuple[float, ...]:
        """Its own standard deviations: a bound of the norm says nothing about them."""
        return self.std

    def check_budget(self, eps: float) -> None:
        """Bounded by the declaration already."""


ATTACKS: dict[str, type[Attack]] = {kind.model_fields["name"].default: kind for kind in (Fgsm, Pgd, GaussianNoise)}


def one_hot(y: Labels, n_classes: int) -> Images:
    """Labels (n,) to float32 (n, n_classes), as ART wants true labels."""
    return np.eye(n_classes, dtype=np.float32)[y]


def measured(adversarial: Images, clean: Images) -> dict[str, np.ndarray]:
    """L∞ and L2 of every perturbation, measured outside the attack; `AttackError` when not finite."""
    if not np.isfinite(adversarial).all():
        raise AttackError("adversarial images hold NaN or infinite pixels")
    return {"linf": lengths(adversarial - clean, "inf"), "l2": lengths(adversarial - clean, "2")}


def parse(text: Any) -> Any:
    """`NAME` or `NAME:key=value,key=value` to the settings of an attack; anything but text passes unchanged.

    A value with commas is bracketed: `gaussian-noise:std=[0.1,0.3]`.
    """
    return parse_declaration(text, ATTACKS, "attack")


def parse_declaration(text: Any, registry: dict[str, type[Any]], what: str) -> Any:
    """Read `NAME:key=value,...` against a registry; `SettingError` names what is known when the name is not."""
    if not isinstance(text, str):
        return text
    name, _, rest = text.partition(":")
    if name not in registry:
        raise SettingError(f"unknown {what} {name!r}", where=what, fix=f"one of {', '.join(registry)}")
    settings: dict[str, Any] = {"name": name}
    for pair in _split(rest):
        key, equals, value = pair.partition("=")
        if not equals or key not in registry[name].model_fields:
            known = ", ".join(k for k in registry[name].model_fields if k != "name")
            raise SettingError(f"{pair!r} is not a setting of {name}", where=what, fix=f"key=value with {known}")
        settings[key] = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else value
    try:
        return registry[name](**settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ":".join([name, *map(str, first["loc"][:1])])
        raise SettingError(
            f"{first['msg'].removeprefix('Value error, ')}, got {first['input']!r}", where=where
        ) from None


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part]


_Declared = Annotated[Fgsm | Pgd | GaussianNoise, Field(discriminator="name")]
AnyAttack = Annotated[_Declared, BeforeValidator(parse, json_schema_input_type=_Declared | str)]
"""An attack's settings, or text such as `pgd:max_iter=40`: the type of every flow's and command's parameter."""


def attack(settings: str | dict[str, Any]) -> Attack:
    """The attack of a declaration: text as on the command line, or a mapping with its `name`."""
    checked: Attack = TypeAdapter(AnyAttack).validate_python(settings)
    return checked


class global_seed:
    """Seed NumPy's global generator, which ART draws from, for a block; put its state back after it."""

    def __init__(self, rng: np.random.Generator) -> None:
        """`rng` gives the seed."""
        self._seed = int(rng.integers(2**32))

    def __enter__(self) -> None:
        """Seed."""
        self._state = np.random.get_state()
        np.random.seed(self._seed)

    def __exit__(self, *_: object) -> None:
        """Restore."""
        np.random.set_state(self._state)


def _art(norm: Norm) -> float | int:
    return np.inf if norm == "inf" else 2


def _foolbox(
    kind: str,
    classifier: CompiledClassifier,
    x: Images,
    y: Labels,
    eps: float,
    rng: np.random.Generator,
    repeats: int = 1,
    **settings: Any,
) -> Images:
    """Images of Foolbox's attack `kind`, chunk by chunk: it takes tensors and keeps all it is given in memory."""
    import tensorflow as tf

    from gauntlet.classifier import CHUNK

    foolbox = _import_foolbox()
    # The classifier's own compiled function: a fresh one would be traced again for every shard of images.
    model = foolbox.TensorFlowModel(classifier._logits, bounds=classifier.clip_values)
    attack = getattr(foolbox.attacks, kind)(**settings)
    attack = attack if repeats == 1 else attack.repeat(repeats)
    # Its starts come from TensorFlow's global generator.
    tf.random.set_seed(int(rng.integers(2**31)))
    made = []
    for start in range(0, len(x), CHUNK):
        images, labels = tf.constant(x[start : start + CHUNK]), tf.constant(y[start : start + CHUNK], tf.int64)
        made.append(attack(model, images, labels, epsilons=eps)[1].numpy())
    return np.concatenate(made)


def _import_foolbox() -> Any:
    try:
        import foolbox
    except ImportError as error:
        fix = "pip install -r requirements.txt -c constraints.txt"
        raise SettingError("Foolbox is not installed", where="library", fix=fix) from error
    return foolbox
