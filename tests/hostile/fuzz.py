"""Fuzz the loaders: whatever the bytes, a `GauntletError` or a data set comes out, and no file is written.

    python -m tests.hostile.fuzz --minutes 10

Valid files are spoilt (bits flipped, parts cut out, doubled, spliced, numbers in headers changed), since random bytes
never get past a magic number.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gauntlet.data import datasets, sources
from gauntlet.data.pictures import Form
from gauntlet.data.stated import SUFFIXES, Stated
from gauntlet.errors import GauntletError
from tests.hostile import making as m

MEMORY = 3 * 2**30
"""Bytes of address space beyond what the libraries take, for one case and all before it."""
NUMBERS = tuple(n % 2**32 for n in (0, 1, -1, -2, 2**15, 2**16, 2**31, 2**31 - 1, 2**20, 100, 255, 256))

Edit = tuple[str, float, int]
"""What is done, where (a share of the length), and with which number."""
EDITS = ("flip", "cut", "drop", "double", "number", "text", "zero")
TEXTS = (
    b"(10**9,)",
    b"|O",
    b"'<f8'",
    b"'|V9'",
    b"True",
    b"..",
    b"/",
    b"\n",
    b"\0",
    b"PK\1\2",
    b"\x93NUMPY",
    b"-1",
    b"e99",
)


def seeds(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Valid files by kind: the name they are read under, and their bytes."""
    member = m.npy(m.shape_header(40, 8, 8), bytes(2560))
    kaggle = m.idx_zip(folder).read_bytes()
    packed = folder / "packed.npz"
    np.savez_compressed(packed, **m.arrays())
    files = {"npz": ("own.npz", m.npz(folder).read_bytes()), "npz, compressed": ("own.npz", packed.read_bytes())}
    files |= {"npy header": ("own.npz", member), "zip": ("archive.zip", kaggle), "idx": ("", m.idx_bytes()[IMAGES])}
    files["idx, gzipped"] = (".gz", m.gz(m.idx_bytes()[IMAGES]))
    for path in folder.iterdir():
        path.unlink()
    return files | _images()


def _images() -> dict[str, tuple[str, bytes]]:
    """Encoded images, and what they come in."""
    from scipy.io import savemat

    png, stream = m.picture(), io.BytesIO()
    savemat(stream, {"X": np.moveaxis(m.arrays()["x_train"], 0, -1), "y": m.arrays()["y_train"]}, do_compression=True)
    rows = [",".join(map(str, (k % 2, *range(100, 164)))) for k in range(40)]
    with tempfile.TemporaryDirectory() as place:
        packed = m.image_folder(Path(place), True, {}).read_bytes()
    return {
        "png": ("png", png),
        "jpeg": ("png", m.picture("JPEG")),
        "zip of images": ("own.zip", packed),
        "parquet": ("own.parquet", m.parquet_bytes(png)),
        "arrow": ("own.arrow", m.arrow_bytes(png)),
        "mat": ("own.mat", stream.getvalue()),
        "csv": ("own.csv", "\n".join(rows).encode()),
    }


IMAGES = f"{m.STEMS['x_train']}-ubyte"


def spoil(data: bytes, edits: list[Edit]) -> bytes:
    """The bytes after some edits."""
    spoilt = bytearray(data)
    for kind, place, number in edits:
        at = int(place * len(spoilt))
        length = 1 + number % 64
        if kind == "flip" and spoilt:
            spoilt[min(at, len(spoilt) - 1)] ^= 1 << number % 8
        elif kind == "cut":
            del spoilt[at:]
        elif kind == "drop":
            del spoilt[at : at + length]
        elif kind == "double":
            spoilt[at:at] = spoilt[at : at + length]
        elif kind == "number":
            width = (1, 2, 4)[number % 3]
            order = "big" if number % 2 else "little"
            value = NUMBERS[number % len(NUMBERS)] % 256**width
            spoilt[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
        elif kind == "text":
            text = TEXTS[number % len(TEXTS)]
            spoilt[at : at + len(text)] = text
        elif kind == "zero":
            spoilt[at : at + length] = bytes(length)
    return bytes(spoilt)


def load(kind: str, name: str, data: bytes, folder: Path) -> None:
    """Read the bytes as the data set that they pretend to be."""
    datasets._load.cache_clear()
    if kind.startswith("idx"):
        place = folder / "mnist"
        place.mkdir(exist_ok=True)
        for file, content in m.idx_bytes().items():
            (place / file).unlink(missing_ok=True)
            (place / f"{file}.gz").unlink(missing_ok=True)
            (place / (file + name if file == IMAGES else file)).write_bytes(data if file == IMAGES else content)
        sources.idx_files(place, datasets._SPECS["mnist"].shapes())
        datasets.read_dataset("mnist", place)
    elif name == "png":
        _one_image(data)
    elif kind == "npy header":
        datasets.read_dataset(str(m.raw_npz(folder, data)))
    else:
        path = folder / name
        path.write_bytes(data)
        datasets.read_dataset(*(("mnist", path) if name == "archive.zip" else (str(path), None)))


def _one_image(data: bytes) -> None:
    """Decode the bytes as a data set's images are."""
    Form(Stated(), len(data)).decoded([(data, "0.png")], 1)


def outcome(kind: str, name: str, data: bytes, folder: Path) -> str:
    """`read`, or `refused`; anything else that is raised is a find, and so is a file that was not there."""
    try:
        load(kind, name, data, folder)
        told = "read"
    except GauntletError as error:
        line = str(error)
        assert line.isprintable(), repr(line)
        assert len(line) < 6_000, len(line)
        told = "refused"
    allowed = {"archive.zip", "mnist", *(f"own{suffix}" for suffix in SUFFIXES)}
    assert {path.name for path in folder.iterdir()} <= allowed, list(folder.iterdir())
    return told


def bound_memory() -> None:
    """Refuse this process more address space than it has and `MEMORY`: then a bomb is a MemoryError, a find."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.RLIM_INFINITY))


def drawn(draw: np.random.Generator) -> list[Edit]:
    """One to four edits; half of them near the start or the end, where the headers are."""
    made = []
    for _ in range(int(draw.integers(1, 5))):
        place = float(draw.random())
        place = place if draw.random() < 0.5 else place**6 if draw.random() < 0.5 else 1 - place**6
        made.append((EDITS[int(draw.integers(len(EDITS)))], place, int(draw.integers(2**16))))
    return made


def run(seconds: float, seed: int, tell: Callable[[str], None] = print) -> dict[str, object]:
    """Fuzz for so long; every find is told, with the edits that make it."""
    counts: Counter[str] = Counter()
    finds: list[str] = []
    draw, start = np.random.default_rng(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kinds = seeds(folder)
        bound_memory()
        while time.monotonic() - start < seconds:
            kind = list(kinds)[sum(counts.values()) % len(kinds)]
            name, data = kinds[kind]
            edits = drawn(draw)
            try:
                counts[f"{kind}: {outcome(kind, name, spoil(data, edits), folder)}"] += 1
            except Exception as error:  # a find
                counts[f"{kind}: find"] += 1
                files = f"{kind} {edits}: {type(error).__name__}: {str(error)[:300]}"
                finds.append(files)
                tell(files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    facts = {"seconds": round(time.monotonic() - start), "cases": sum(counts.values()), "peak_bytes": peak}
    return facts | {"outcomes": dict(sorted(counts.items())), "finds": finds}


def main() -> None:
    """Fuzz, tell the figures as JSON, and exit 1 when something was found."""
    parser = argparse.ArgumentParser("python -m tests.hostile.fuzz", description="Fuzz the loaders.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    facts = run(60 * options.minutes, options.seed, lambda line: print(line, file=sys.stderr))
    print(json.dumps(facts, indent=1))
    sys.exit(bool(facts["finds"]))


if __name__ == "__main__":
    main()
