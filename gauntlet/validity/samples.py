"""A share known from a sample of the images: surely below a threshold, surely above it, or neither.

A check raises a doubt if the whole 95 % interval is above its threshold. If the interval contains the threshold, the
verdict does not change, and a note says what was not excluded: for an honest model this happens if the sample is too
small to exclude the threshold, so such a doubt would be about the sample and not about the model; models that mask
gradients are far above. The detectable effects are computed here, exactly, from the binomial distribution.

Comparisons of attacks on the images of the battery itself are not samples: they use all images behind the number
and keep their thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from gauntlet.measurement import wilson

Side = Literal["below", "above", "across"]
FEW = 2
"""So many images may differ by chance, whatever share they are."""


class Sample(NamedTuple):
    """`found` of `n` >= 1 images."""

    found: int
    n: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.found / self.n

    @property
    def ends(self) -> tuple[float, float]:
        """Of the 95 % Wilson interval, in [0, 1]."""
        return wilson(self.found, self.n)

    def side(self, threshold: float) -> Side:
        """On which side the whole interval is; an end on the threshold is below it."""
        low, high = self.ends
        return "above" if low > threshold else "below" if high <= threshold else "across"

    def __str__(self) -> str:
        """Such as `4.0 % [2.2, 7.2] of 256 images`."""
        low, high = self.ends
        return f"{100 * self.share:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {self.n:,} images"


def sample(share: float, n: int) -> Sample:
    """From a share in [0, 1] of `n` images."""
    return Sample(round(share * n), n)


def raised_from(n: int, threshold: float, few: int = 0) -> int:
    """The least count of `n` images that is above `threshold` and more than `few`; n + 1 when none is."""
    counts: Iterator[int] = (k for k in range(few + 1, n + 1) if Sample(k, n).side(threshold) == "above")
    return next(counts, n + 1)


def chance(share: float, n: int, count: int) -> float:
    """How surely at least `count` of `n` images are seen when the true share is `share`."""
    from scipy.stats import binom

    return float(binom.sf(count - 1, n, share))


def detected(n: int, count: int, power: float = 0.8) -> float:
    """The true share from which on at least `count` of `n` images are seen with a chance of `power`; 1 when never."""
    from scipy.stats import beta

    return float(beta.ppf(power, count, n - count + 1)) if count <= n else 1.0
