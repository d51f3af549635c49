"""The corpus: one list of malformed and hostile inputs, and what the one line about each must say."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import making as m


@dataclass(frozen=True)
class Case:
    """One input: how it is made, what is typed, and what the one line must say."""

    kind: str
    name: str
    says: tuple[str, ...]
    make: Callable[[Path], Sequence[str | Path]]
    """Makes its files in a folder, and gives the flags."""
    flow: str = "train"
    status: int = 2
    why: str = ""
    """Why the status is 1, where it is."""
    env: dict[str, str] = field(default_factory=dict)
    """`{folder}` in a value is where the case's files are."""

    def __str__(self) -> str:
        """For pytest."""
        return f"{self.kind}: {self.name}"


CASES: list[Case] = []


def add(kind: str, name: str, says: str, make: Callable[[Path], Sequence[str | Path]], **more: Any) -> None:
    """One more; `says` are words parted by bars."""
    CASES.append(Case(kind, name, tuple(says.split("|")), make, **more))


def data(name: str, says: str, make: Callable[[Path], Path]) -> None:
    """A data set of the user's own."""
    add("data", name, says, lambda folder: ["--dataset", make(folder)])


def changed(name: str, says: str, **changes: Any) -> None:
    """A data set with some arrays changed."""
    data(name, says, lambda folder: m.npz(folder, **changes))


def member(name: str, says: str, content: bytes) -> None:
    """A data set with one member given as bytes."""
    data(name, says, lambda folder: m.raw_npz(folder, content))


def written(folder: Path, name: str, content: bytes) -> Path:
    """A file of these bytes."""
    (folder / name).write_bytes(content)
    return folder / name


# --- data files ---------------------------------------------------------------------------------------------

good = m.arrays()
grey = good["x_train"] / 255
changed("pickled images", "own.npz: x_train|pickle|refused", x_train=np.array([{}] * 40, dtype=object))
changed("pickled class names", "class_names|refused", class_names=np.array(["a", None], dtype=object))
changed("complex pixels", "x_train|complex", x_train=grey.astype(np.complex64))
changed("text for pixels", "x_train|dtype", x_train=np.full((40, 8, 8), "a"))
changed("fields for pixels", "x_train|dtype", x_train=np.zeros((40, 8, 8), dtype=[("a", "u1")]))
changed("pixels of another type", "x_train|int32|--pixel-max", x_train=good["x_train"].astype(np.int32))
changed("NaN pixels", "x_train|NaN", x_train=np.where(grey > 0.9, np.nan, grey))
changed("infinite pixels", "x_train|infinite", x_train=np.where(grey > 0.9, np.inf, grey))
changed("negative pixels", "x_train|outside [0, 1]", x_train=grey - 0.5)
changed("floats up to 256", "x_test|outside [0, 1]", x_test=good["x_test"].astype(np.float32) + 1)
changed("floats up to 255", "x_test|--pixel-max 255", x_test=good["x_test"].astype(np.float32))
changed("one-dimensional images", "x_train|(N, H, W)", x_train=good["x_train"].reshape(-1))
changed("five channels", "x_train|channels last", x_train=np.zeros((40, 8, 8, 5), np.uint8))
changed("no images", "x_train|empty", x_train=np.zeros((0, 8, 8), np.uint8))
changed("images without width", "x_train|empty", x_train=np.zeros((40, 8, 0), np.uint8))
changed("images of two sizes", "x_test|same height", x_test=np.zeros((20, 9, 8), np.uint8))
changed("images too large", "x_train|4096 x 4096", x_train=np.zeros((40, 1, 5000), np.uint8))
changed("negative labels", "y_train|-1", y_train=good["y_train"].astype(int) - 1)
changed("fractions for labels", "y_train|not whole numbers", y_train=good["y_train"] + 0.5)
changed("NaN labels", "y_train|not whole numbers", y_train=np.where(good["y_train"] == 1, np.nan, 0))
changed("a label of 10**18", "y_train|out of range", y_train=good["y_train"].astype(np.int64) * 10**18 // 2)
changed("labels at the end of uint64", "y_train|out of range", y_train=np.full(40, 2**64 - 1, np.uint64))
changed("fewer labels than images", "y_train|39 labels for 40 images", y_train=good["y_train"][:39])
changed("a class that training has not", "y_test|out of range", y_test=good["y_test"] + 3)
changed("one class", "y_train|only one class", y_train=np.zeros(40, np.uint8), y_test=np.zeros(20, np.uint8))
changed("no y_test", "own.npz|lacks y_test", y_test=None)
changed("class names with newlines", "class_names|unprintable", class_names=np.array(["a\nb", "c", "d", "e"]))
changed("class names twice", "class_names|double", class_names=np.array(["a", "a", "b", "c"]))
member("a header of 10**12 images", "x_train|truncated", m.npy(m.shape_header(10**12, 8, 8), b"x"))
member("a header that overflows", "x_train|truncated", m.npy(m.shape_header(2**40, 2**40), b"x"))
member("negative sides in a header", "x_train|empty", m.npy(m.shape_header(40, -8, -8), bytes(2560)))
member("code for a header", "x_train|cannot be read", m.npy("__import__('os').system('touch canary')"))
member("a header of brackets", "x_train|cannot be read", m.npy("(" * 9000))
member("a header longer than the file", "x_train|cannot be read", m.npy(m.shape_header(40, 8, 8), b"", 2**16 - 1))
member("a type of 10**9 bytes", "x_train", m.npy(m.shape_header(40, 8, 8, dtype="|V1000000000"), b"x"))
member("a type that does not exist", "x_train|cannot be read", m.npy(m.shape_header(40, dtype="boom"), b"x"))
member("an array cut off", "x_train|truncated", m.npy(m.shape_header(40, 8, 8), bytes(2559)))
member("bytes behind an array", "x_train|trailing", m.npy(m.shape_header(40, 8, 8), bytes(2561)))
data("text", "own.npz|cannot be read", lambda f: written(f, "own.npz", b"x_train,y_train\n" * 99))
data("nothing", "own.npz|cannot be read", lambda f: written(f, "own.npz", b""))
data("an archive cut off", "own.npz|cannot be read", lambda f: m.cut(m.npz(f)))
data("a pickle", "own.npz|cannot be read", lambda f: written(f, "own.npz", m.pickled(f)))
data("an array alone", "own.npz|cannot be read", lambda f: written(f, "own.npz", m.npy(m.shape_header(1), b"x")))
data("a folder", "own.npz|not a file", lambda f: (f / "own.npz").mkdir() or f / "own.npz")  # type: ignore[func-returns-value]
data("an endless device", "own.npz|not a file", lambda f: (f / "own.npz").symlink_to("/dev/zero") or f / "own.npz")  # type: ignore[func-returns-value]
data("a link to itself", "own.npz", lambda f: (f / "own.npz").symlink_to("own.npz") or f / "own.npz")  # type: ignore[func-returns-value]
data("no file", "own.npz|no such file", lambda f: f / "own.npz")


# --- folders, zips and tables of images -----------------------------------------------------------------------


def pictured(name: str, says: str, packed: bool = False, **files: bytes | None) -> None:
    """A folder of images, or a zip of one, with some files changed, or left out where None; `__` is `/`."""
    add("images", name, says, lambda folder: ["--dataset", m.image_folder(folder, packed, files)])


png = m.picture()
pictured("an image that is none", "train/a/0.png|cannot be read as an image", train__a__0=b"junk")
pictured("an image cut off", "train/a/0.png|cannot be read as an image", train__a__0=png[:50])
pictured("an image of another format", "train/a/0.png|cannot be read as an image", train__a__0=m.picture("TIFF"))
pictured(
    "PostScript for an image", "train/a/0.png|cannot be read as an image", train__a__0=b"%!PS-Adobe-3.0 EPSF-3.0\n"
)
pictured("an image of 2**31 pixels a side", "train/a/0.png", train__a__0=m.declared_picture(2**31 - 1))
pictured("an image of 5,000 pixels a side", "train/a/0.png|5000", train__a__0=m.declared_picture(5_000))
pictured("images of two sizes", "train/b/2.png|--image-size", train__b__2=m.picture(side=9))
pictured("a grey image among coloured ones", "train/b/2.png|--channels", train__b__2=m.picture(mode="L"))
pictured("a class that training has not", "test/c/0.png|no training image", test__c__0=png)
pictured("an image in no class", "train/0.png|lies elsewhere", train__0=png)
pictured("a zip that leaves its folder", "unsafe name", packed=True, **{"..__evil": png})
pictured("a zip with a bomb", "train/a/0.png|zip bomb", packed=True, train__a__0=bytes(65 * 2**20))
pictured("a zip with an image that is none", "train/a/0.png|cannot be read as an image", packed=True, train__a__0=b"x")
add("images", "an empty folder", "holds no images", lambda f: ["--dataset", m.image_folder(f, False, None)])
add("images", "the root of the system", "experiment's, and cannot", lambda _: ["--dataset", "/"])


def tabled(name: str, says: str, file: str, content: Callable[[], bytes]) -> None:
    """A table in one file."""
    add("tables", name, says, lambda folder: ["--dataset", written(folder, file, content())])


tabled("a pickle called parquet", "own.parquet|cannot be read", "own.parquet", lambda: pickle.dumps([1]))
tabled("a table of paths", "never followed", "own.parquet", lambda: m.parquet_bytes(path="/etc/passwd"))
tabled("a table of text for images", " row |cannot be read as an image", "own.parquet", lambda: m.parquet_bytes(b"x"))
tabled("a table cut off", "own.parquet|cannot be read", "own.parquet", lambda: m.parquet_bytes(png)[:-9])
tabled("a table without end", "own.arrow|cannot be read", "own.arrow", lambda: m.arrow_bytes(png)[:-90])
tabled("compressed Arrow buffers", "compressed buffers", "own.arrow", lambda: m.arrow_bytes(png, "zstd"))
tabled("an Arrow batch with offsets anywhere", "own.arrow", "own.arrow", lambda: m.arrow_bytes(png, spoilt=True))
tabled("a CSV of one column", "expected a label", "own.csv", lambda: b"1\n2\n")
tabled("a CSV of words", "own.csv|cannot be read", "own.csv", lambda: b"label,p0\n" + b"0,1\n1,__import__\n" * 9)
tabled("a CSV of a line of 20 MB", "own.csv", "own.csv", lambda: b"1," * 10_000_000)
tabled("a CSV of binary", "own.csv", "own.csv", lambda: bytes(range(256)) * 9)
tabled("MATLAB cells", "X is of kind cell", "own.mat", lambda: m.mat_bytes(np.array([{}], object)))
tabled("MATLAB of 7.3", "version 7.3", "own.mat", lambda: b"MATLAB 7.3 MAT-file" + bytes(500))
tabled("no MATLAB", "own.mat|cannot be read", "own.mat", lambda: pickle.dumps([1]))


# --- IDX ----------------------------------------------------------------------------------------------------


def files(name: str, says: str, **changes: bytes | None) -> None:
    """MNIST's four files, some of them spoilt."""
    make = lambda f: ["--dataset", "mnist", "--data-dir", m.idx_folder(f, **changes)]  # noqa: E731
    add("IDX", name, says, make)


large = m.arrays(side=28)
x, y = large["x_train"], large["y_train"]
files("another magic number", "train-images|magic|9999", x_train=m.idx(x, magic=9999))
files("labels for images", "train-images|magic|2049", x_train=m.idx(y))
files("images cut off", "train-images|truncated", x_train=m.idx(x)[:-1])
files("a header cut off", "train-images|truncated|header", x_train=m.idx(x)[:9])
files("no bytes", "train-labels|truncated", y_train=b"")
files("bytes behind", "train-images|trailing", x_train=m.idx(x) + b"\0")
files("counts that differ", "y_train|39 labels for 40 images".replace("y_train", "train-labels"), y_train=m.idx(y[:39]))
files("a dimension of 2**32 - 1", "train-images|truncated", x_train=m.idx(x, shape=(2**32 - 1, 28, 28)))
files("three such dimensions", "train-images|truncated", x_train=m.idx(x, shape=(2**32 - 1,) * 3))
files("images of another size", "train-images|shape", x_train=m.idx(m.arrays(side=27)["x_train"]))
files("no images in the header", "train-images|trailing", x_train=m.idx(x, shape=(0, 28, 28)))
files("a file missing", "not complete|t10k-labels", y_test=None)
files("gzip under a plain name", "train-images|.gz", x_train=m.gz(m.idx(x)))
files("more than MNIST can have", "train-images|more than the", x_train=bytes(48 * 2**20))
files("labels above 9", "train-labels|out of range", y_train=m.idx(y + 200))
files("another data set", "(40, 28, 28, 1)|mnist has (60000, 28, 28)")


def gzipped(name: str, says: str, content: bytes) -> None:
    """The same with the training images gzipped."""

    def make(folder: Path) -> Sequence[str | Path]:
        place = m.idx_folder(folder, x_train=None)
        written(place, f"{m.STEMS['x_train']}-ubyte.gz", content)
        return ["--dataset", "mnist", "--data-dir", place]

    add("IDX", name, says, make)


gzipped("a bomb of gzip", "train-images|bomb", m.gz(bytes(50 * 2**20)))
gzipped("gzip cut off", "train-images|cannot be read as gzip", m.gz(m.idx(x))[:-20])
gzipped("text called .gz", "train-images|cannot be read as gzip", b"not gzip at all")


# --- archives -----------------------------------------------------------------------------------------------


def archive(name: str, says: str, make: Callable[[Path], Path]) -> None:
    """Kaggle's archive of MNIST."""
    add("zip", name, says, lambda folder: ["--dataset", "mnist", "--data-dir", make(folder)])


def holding(name: str, says: str, called: str) -> None:
    """The archive with one more member."""
    archive(name, says, lambda folder: m.idx_zip(folder, (called, b"x")))


IMAGES = f"{m.STEMS['x_train']}-ubyte"
holding("a member that leaves the folder", "unsafe name|../../evil", "../../evil")
holding("one that leaves it later", "unsafe name", "images/../../../evil")
holding("one at the root", "unsafe name|/etc/cron.d/evil", "/etc/cron.d/evil")
holding("one of another drive", "unsafe name", "C:\\evil.exe")
holding("backslashes that leave the folder", "unsafe name", "..\\..\\evil")
holding("a newline in a name", "unsafe name|evil?name", "evil\nname")
holding("a terminal's control sequence", "unsafe name|?[31m", "\x1b[31mevil")
holding("a name written backwards", "unsafe name", "gnp.\u202eexe")
holding("a name of 65,000 characters", "archive.zip", "../" * 21_000)
archive(
    "a NUL in a name", "unsafe name", lambda f: m.patched(m.idx_zip(f, ("evilname", b"x")), b"evilname", b"evil\0ame")
)
archive("a link", "holds a link|passwords", lambda f: m.idx_zip(f, change=m.link))
archive("two members of one name", "two members|" + IMAGES, lambda f: doubled(f))
archive(
    "a bomb by ratio", "zip bomb", lambda f: m.zipped(f / "archive.zip", *m.without(IMAGES), (IMAGES, bytes(2**28)))
)
archive("a bomb by nesting", "magic", lambda f: nested(f))
archive("a size that lies", IMAGES, lambda f: lying(f))
archive("members that are encrypted", "encrypted|password", lambda f: m.encrypted(m.idx_zip(f)))
archive("a compression without bounds", "compressed by method 14", lambda f: packed(f, zipfile.ZIP_LZMA))
archive("20,000 members", "20,004 members", lambda f: m.idx_zip(f, *((f"{i}", b"") for i in range(20_000))))
archive("a wrong checksum", "CRC", lambda f: miscounted(f))
archive("no members", "holds neither", lambda f: m.zipped(f / "archive.zip"))
archive("an archive cut off", "cannot be read", lambda f: m.cut(m.idx_zip(f)))
archive("nothing but an end", "holds neither", lambda f: written(f, "archive.zip", b"PK\5\6" + bytes(18)))
data("an .npz that leaves its folder", "unsafe name", lambda f: m.zipped(f / "own.npz", ("../x_train.npy", b"x")))
data("an .npz with a bomb", "zip bomb", lambda f: declared(f))


def doubled(folder: Path) -> Path:
    """Two members called alike."""
    path = m.idx_zip(folder, ("x" * len(IMAGES), b"x"))
    return m.patched(path, b"x" * len(IMAGES), IMAGES.encode())


def nested(folder: Path) -> Path:
    """A zip in a zip in a zip."""
    inner = m.zipped(folder / "inner.zip", ("a", bytes(2**20))).read_bytes()
    middle = m.zipped(folder / "inner.zip", ("b", inner)).read_bytes()
    (folder / "inner.zip").unlink()
    return m.zipped(folder / "archive.zip", *m.without(IMAGES), (IMAGES, middle))


def lying(folder: Path) -> Path:
    """A member that holds more than it declares."""
    path = m.idx_zip(folder)
    size = len(m.idx_bytes()[IMAGES])
    return m.patched(path, size.to_bytes(4, "little"), (size - 784).to_bytes(4, "little"))


def packed(folder: Path, method: int) -> Path:
    """Compressed by another method."""
    return m.zipped(folder / "archive.zip", *m.idx_bytes().items(), method=method)


def miscounted(folder: Path) -> Path:
    """A byte of the images changed, not their checksum."""
    path = m.zipped(folder / "archive.zip", *m.idx_bytes().items(), method=zipfile.ZIP_STORED)
    body = m.idx_bytes()[IMAGES][100:200]
    return m.patched(path, body, bytes(100))


def declared(folder: Path) -> Path:
    """2**31 zeros in two megabytes, declared and no more."""
    path = m.raw_npz(folder, m.npy(m.shape_header(2**18, 8, 8), bytes(2**24)))
    arrays = [("x_train.npy", m.npy(m.shape_header(40, 8, 8), bytes(2560)))]
    return lied(m.zipped(path, *arrays, *((f"{key}.npy", b"x") for key in ("y_train", "x_test", "y_test"))))


def lied(path: Path) -> Path:
    """The first member declares 2**31 bytes in the directory."""
    data_ = bytearray(path.read_bytes())
    place = data_.find(b"PK\x01\x02")
    data_[place + 24 : place + 28] = (2**31).to_bytes(4, "little")
    path.write_bytes(bytes(data_))
    return path


def tarred(folder: Path, *members: tuple[str, bytes, bytes], size: bytes = b"") -> list[str | Path]:
    """CIFAR's archive with these members: name, type, content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    path = written(
        folder,
        "cifar-10-binary.tar.gz",
        m.gz(stream.getvalue().replace(b"data_batch_2.bin", size or b"data_batch_2.bin")),
    )
    return ["--dataset", "cifar10", "--data-dir", path]


add("zip", "a tar of links", "lacks data_batch_1.bin", lambda f: tarred(f, ("data_batch_1.bin", tarfile.SYMTYPE, b"")))
add("zip", "a tar of 200 members", "more than 100 members", lambda f: tarred(f, *[("a", tarfile.REGTYPE, b"")] * 200))
add(
    "zip",
    "a tar of pickles",
    "pickles|refused",
    lambda f: ["--dataset", "cifar10", "--data-dir", written(f, "data_batch_1", m.pickled(f))],
)


# --- models -------------------------------------------------------------------------------------------------


def model(name: str, says: str, make: Callable[[Path], Path], *more: str) -> None:
    """A model's file that is attacked."""
    words = [*more, "--n", "20"]
    add("model", name, says, lambda f: ["--model", make(f), *(w.format(folder=f) for w in words)], flow="attack")


def keras(name: str, says: str, content: Any, weights: bytes | None = None, *more: tuple[str, bytes]) -> None:
    """A `.keras` archive with a description of one's own."""
    model(name, says, lambda f: m.described(f / "m.keras", content, weights, *more))


def linked(content: Any) -> None:
    """HDF5 whose weights are another file's."""
    import h5py

    content["layers"] = h5py.ExternalLink("/etc/passwd", "/")


def outside(content: Any) -> None:
    """HDF5 whose weights are the bytes of another file."""
    content.create_dataset("weights", (100,), "u1", external=[("/etc/passwd", 0, 100)])


def promised(content: Any) -> None:
    """HDF5 that declares a terabyte and holds none of it."""
    content.create_dataset("weights", (2**38,), "f4", chunks=(2**20,))


def lambda_layer(folder: Path, suffix: str) -> Path:
    """A real Lambda layer, whose code makes the canary."""
    import keras as k

    code = eval(f"lambda x: (open({str(folder / m.CANARY)!r}, 'w').close(), x)[1]")  # the path is a constant of it
    layer = k.layers.Lambda(code, output_shape=(28, 28, 1))
    path = m.model(folder / f"m{suffix}", layer)
    (folder / m.CANARY).unlink(missing_ok=True)  # making it has run it
    return path


def two_inputs(folder: Path) -> Path:
    """A model that takes two images."""
    import keras as k

    one, two = k.Input((28, 28, 1)), k.Input((28, 28, 1))
    k.Model([one, two], k.layers.Dense(10)(k.layers.Flatten()(k.layers.Add()([one, two])))).save(folder / "m.keras")
    return folder / "m.keras"


def not_a_number(folder: Path) -> Path:
    """A model whose weights are NaN."""
    import keras as k

    path = m.model(folder / "m.keras")
    network = k.models.load_model(path)
    network.set_weights([np.full_like(w, np.nan) for w in network.get_weights()])
    network.save(path)
    return path


def sourced(folder: Path) -> Path:
    """A model that would do, beside a pickle."""
    written(folder, "p.keras", m.pickled(folder))
    return m.described(folder / "m.keras", m.config())


def legacy(folder: Path, config: Any) -> Path:
    """The older form, HDF5 with a description of one's own."""

    def fill(content: Any) -> None:
        content.attrs["model_config"] = json.dumps(config)

    return written(folder, "m.h5", m.hdf5(fill))


def script(name: str, says: str, code: str, pickled_: Callable[[Path], bytes] | None = None) -> None:
    """TorchScript with code of one's own."""
    inert = pickle.dumps({}, 2)
    make = lambda f: m.torch_archive(f / "m.pt", pickled_(f) if pickled_ else inert, code)  # noqa: E731
    model(name, says, make)


def program(
    name: str,
    says: str,
    content: Any,
    pickled_: Callable[[Path], bytes] = lambda _: pickle.dumps({}, 2),
    more: Callable[[Path], Sequence[tuple[str, bytes]]] = lambda _: (),
) -> None:
    """An exported program with a description of one's own, or more members."""
    model(name, says, lambda f: m.torch_archive(f / "m.pt2", pickled_(f), program=content, more=more(f)))


def table(name: str, pickled: bool) -> tuple[str, bytes]:
    """Where an exported program's weights lie, and how."""
    entry = {"path_name": name, "is_param": True, "use_pickle": pickled, "tensor_meta": None}
    return "m/data/weights/model_weights_config.json", json.dumps({"config": {"w": entry}}).encode()


def two_scripts(folder: Path) -> Path:
    """TorchScript that is inspected, and other TorchScript that is loaded."""
    path, made = folder / "m.pt", []
    for body in ("torch.abs(x)", f"torch.save(x, {str(folder / m.CANARY)!r})"):
        made.append(m.torch_archive(path, pickle.dumps({}, 2), f"def f(x):\n  return {body}\n").read_bytes())
    return m.two_directories(path, *made)


def onnx(name: str, says: str, node: bytes, location: bytes = b"") -> None:
    """ONNX with a node of one's own, or a tensor that lies elsewhere."""
    entry = m.field(1, b"location") + m.field(2, location)
    tensor = m.field(8, b"w") + m.field(13, entry) if location else b""
    model(name, says, lambda f: written(f, "m.onnx", m.onnx_model(node, tensor)))


def weights(name: str, says: str, make: Callable[[Path], Path]) -> None:
    """Weights for a factory of one's own."""
    add("model", name, says, lambda f: ["--model", "json:loads", "--weights", make(f), "--n", "20"], flow="attack")


one_tensor = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
overlapping = one_tensor | {"b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}
deep = b'{"class_name": ' * 100_000
wide = m.named("UpSampling2D", size=[5_000, 5_000])
function = m.named("function", "os", "system") | {"config": "system"}
model("text", "m.keras|neither a .keras archive nor HDF5", lambda f: written(f, "m.keras", b"not a model\n" * 50))
model("nothing", "m.keras|not a readable Keras model", lambda f: written(f, "m.keras", b""))
model("no file", "m.keras|no such model file", lambda f: f / "m.keras")
model("a folder", "no such model file", lambda f: f)
model("a pickle called .keras", "pickle|refused", lambda f: written(f, "m.keras", m.pickled(f)))
model("a pickle called .h5", "pickle|refused", lambda f: written(f, "m.h5", m.pickled(f)))
model("an old pickle", "m.keras|not a readable", lambda f: written(f, "m.keras", pickle.dumps(m.Payload(f), 0)))
model("an archive cut off", "m.keras|cannot be read", lambda f: m.cut(m.described(f / "m.keras", m.config())))
model("HDF5 cut off", "m.h5|not a readable", lambda f: written(f, "m.h5", m.empty_hdf5()[:400]))
model("HDF5 of weights alone", "weights alone", lambda f: written(f, "m.h5", m.empty_hdf5()))
model("a Lambda layer", "Lambda|Python code|--trust", partial(lambda_layer, suffix=".keras"))
model("a Lambda layer in HDF5", "Lambda|Python code|--trust", partial(lambda_layer, suffix=".h5"))
model("a Lambda layer in HDF5, undressed", "Lambda|Python code", lambda f: legacy(f, m.config(m.named("Lambda", None))))
keras("a Lambda inside a layer", "__lambda__|bytecode", m.config(activation=m.named("__lambda__", "builtins")))
keras("a layer of its maker's", "evil.Layer|allow-list", m.config(m.named("Layer", "evil", "Evil>Layer")))
keras("a module for a layer", "os.system|dangerous", m.config(activation=function))
keras("a fetcher for a layer", "keras.utils.get_file|fetches", m.config(m.named("get_file", "keras.utils")))
keras(
    "a switch for a layer", "keras.config|safe mode", m.config(m.named("enable_unsafe_deserialization", "keras.config"))
)
keras("the loader for a layer", "keras.src.saving", m.config(m.named("load_model", "keras.src.saving.saving_api")))
keras("a type that imports", "os.system|refused", m.config(m.named("__typespec__", "os") | {"spec_name": "system"}))
keras("a SavedModel for a layer", "TFSMLayer|reads another file", m.config(m.named("TFSMLayer", filepath="/tmp/evil")))
keras("PyTorch for a layer", "TorchModuleWrapper|refused", m.config(m.named("TorchModuleWrapper", module="gASV")))
keras(
    "a dictionary read from a file",
    "vocabulary|/etc/passwd",
    m.config(m.named("StringLookup", vocabulary="/etc/passwd")),
)
keras(
    "a class called as a function",
    "TFSMLayer|refused",
    m.config(activation={"class_name": "function", "module": "keras.layers", "config": "TFSMLayer"}),
)
keras(
    "an operation that calls functions",
    "keras.src.ops.core.Switch|refused",
    m.config(m.named("Switch", "keras.src.ops.core")),
)
keras("an operation that loops", "WhileLoop|refused", m.config(m.named("WhileLoop", "keras.src.ops.core")))
keras(
    "an operation that makes tensors of any size",
    "Arange|allow-list",
    m.config(m.named("Arange", "keras.src.ops.numpy")),
)
keras(
    "an operation that calls functions, in what a model within is compiled with",
    "keras.src.ops.core.Switch|refused",
    m.config(m.config() | {"compile_config": {"loss": m.named("Switch", "keras.src.ops.core")}}),
)
keras("a lookup", "vocabulary|refused", m.config(m.named("IndexLookup", vocabulary="/etc/passwd")))
keras("a layer without an input", "has no tensor as its input|refused", m.graph(inbound=[]))
keras(
    "a layer called on numbers alone",
    "has no tensor as its input|refused",
    m.graph(inbound=[{"args": [1.0], "kwargs": {}}]),
)
keras("a member of its own", "assets/evil|refused", m.config(), None, ("assets/evil", b"x"))
model("an archive called .h5", "name says otherwise", lambda f: m.described(f / "m.h5", m.config()))
model("HDF5 called .keras", "name says otherwise", lambda f: written(f, "m.keras", m.empty_hdf5()))
model("HDF5 in front, an archive behind", "archive behind|refused", lambda f: m.behind(f, m.empty_hdf5(), "m.h5"))
model("an archive behind something", "refused", lambda f: m.behind(f, b"PK\x03\x04" + b"x" * 96, "m.keras"))
model("an archive with HDF5 at 1,024 bytes", "HDF5 at byte|refused", lambda f: m.two_models(f))
model("text called .onnx", "ONNX|does not begin as one", lambda f: written(f, "m.onnx", b"x"))
model("text called .pt", "PyTorch|does not begin as one", lambda f: written(f, "m.pt", b"x"))
model("text called .tflite", "TensorFlow Lite|does not begin as one", lambda f: written(f, "m.tflite", b"x"))
model(
    "TensorFlow Lite cut off",
    "m.tflite|not a TensorFlow Lite model that can be read",
    lambda f: written(f, "m.tflite", b"\x1c\0\0\0TFL3" * 9),
)
model(
    "TensorFlow Lite that writes files",
    "WriteFile|--trust",
    lambda f: written(f, "m.tflite", m.tflite(b"FlexWriteFile")),
)
model("TensorFlow Lite of a library's", "Evil|--trust", lambda f: written(f, "m.tflite", m.tflite(b"Evil")))
model("a pickle called .pt", "pickle|refused", lambda f: written(f, "m.pt", m.pickled(f)))
model(
    "a pickle in PyTorch's archive", "weights alone|module:factory", lambda f: m.torch_archive(f / "m.pt", m.pickled(f))
)
model("a .keras archive called .pt", "name says otherwise", lambda f: m.described(f / "m.pt", m.config()))
script("a pickle for the weights of TorchScript", "Path.touch|--trust", "", pickled_=m.pickled)
script(
    "TorchScript that reads a file",
    "torch.from_file|--trust",
    "def forward(self, x):\n  return torch.from_file('/etc/passwd')\n",
)
script("TorchScript that saves", "torch.save|--trust", "def forward(self, x):\n  return torch.save(x, 'evil')\n")
script("TorchScript of a library's", "ops.evil.run|--trust", "def forward(self, x):\n  return ops.evil.run(x)\n")
script("TorchScript that saves by a method", ".save()|--trust", "def save(self, x):\n  return (x).save('evil')\n")
script(
    "TorchScript that calls another machine", "ops.prim.rpc_sync|--trust", "def f(x):\n  return ops.prim.rpc_sync(x)\n"
)
script(
    "TorchScript that saves by another way to a method",
    "getattr save|--trust",
    'def forward(self, x):\n  return getattr(torch, "save")(x, "evil")\n',
)
script(
    "TorchScript under another name", "torch under another name|--trust", "def f(x):\n  t = torch\n  return t.abs(x)\n"
)
script(
    "TorchScript whose own function is called like an operation",
    ".set_()|--trust",
    "def set_(self, x):\n  return x\ndef forward(self, x: Tensor):\n  return (x).set_(x)\n",
)
script("TorchScript that prints", "print()|--trust", 'def f(x):\n  print("\\x1b[2J")\n')
script(
    "TorchScript in another encoding",
    "torch.save|--trust",
    "# coding: utf-7\n# +AAoAIgAiACI-\nx = torch.save(1, 'evil')\n# +ACIAIgAi-\n",
)
script("TorchScript with another end of line", "not TorchScript that can be read", "# \r\nx = 1\n")
script(
    "TorchScript of a library's class",
    "__torch__.torch.classes.evil|--trust",
    "def f(x):\n  return __torch__.torch.classes.evil.Run(x)\n",
)
model("an archive with two directories", "bytes stand behind the archive|refused", lambda f: two_scripts(f))
script("TorchScript that cannot be read", "not TorchScript that can be read", "def forward(:\n")
program("a program whose size is code", "expr_str|refused", {"expr_str": "__import__('os').system('touch canary')"})
program(
    "a program whose size is code behind a symbol", "expr_str|refused", {"expr_str": "Symbol('s0').func(eval)('1')"}
)
program("a program whose guards are code", "guards_code|refused", {"guards_code": ["open('canary', 'w')"]})
program("a program that calls a function of Python's", "os.system|refused", {"target": "os.system"})
program("a program that loads another", "torch.hub.load|refused", {"target": "torch.hub.load"})
program("a program of a library's", "torch.ops.evil.run|refused", {"target": "torch.ops.evil.run.default"})
program("a program of results of any class", "in_spec|refused", {"in_spec": json.dumps([1, {"type": "os.x"}])})
program(
    "a program with a pickle for a weight",
    "weight_0 is a pickle|refused",
    {},
    more=lambda f: [table("weight_0", True), ("m/data/weights/weight_0", m.pickled(f))],
)
program("a program with a pickle under another name", "opaque_obj_0 is a pickle|refused", {},
        more=lambda _: [table("opaque_obj_0", False)])  # fmt: skip
program("a program with machine code", "model.so is no part of a program|refused", {},
        more=lambda _: [("m/data/aotinductor/model/model.so", b"\x7fELF")])  # fmt: skip
program("a program with a pickle for an example", "Path.touch|refused", {}, pickled_=m.pickled)
model("ONNX cut off", "m.onnx|ends behind the file", lambda f: m.cut(written(f, "m.onnx", m.onnx_model(b"x" * 500))))
onnx("ONNX of a library's", "evil.Run|--trust", m.field(4, b"Run") + m.field(7, b"evil"))
onnx("ONNX whose weights are another file's", "/etc/passwd|no file beside it|refused", b"", b"/etc/passwd")
onnx("ONNX whose weights lead out of the folder", "../evil|no file beside it|refused", b"", b"../evil")
onnx(
    "ONNX with a tensor in a node that is another file's",
    "a tensor within a node lies in 'w.bin'|refused",
    m.field(5, m.field(5, m.field(13, m.field(1, b"location") + m.field(2, b"w.bin")))),
)
onnx("ONNX whose weights are not there", "gone.bin|no file beside it|refused", b"", b"gone.bin")
weights("a pickle for weights", "pickle|refused", lambda f: written(f, "w.pt", m.pickled(f)))
weights(
    "a pickle in an archive for weights",
    "Path.touch|refused",
    lambda f: m.torch_archive(f / "w.pt", m.pickled(f)),
)
weights("a model for weights", "a model, not weights", lambda f: m.described(f / "w.keras", m.config()))
weights(
    "safetensors of a terabyte's header",
    "does not begin as one|safetensors",
    lambda f: written(f, "w.safetensors", b"\xff" * 8 + b"[}" * 9),
)
weights(
    "safetensors that overlap",
    "overlap|refused",
    lambda f: written(f, "w.safetensors", m.safetensors(overlapping, bytes(8))),
)
weights(
    "safetensors that end too early",
    "end elsewhere|refused",
    lambda f: written(f, "w.safetensors", m.safetensors(one_tensor, bytes(4))),
)
weights(
    "safetensors without numbers",
    "not safetensors|refused",
    lambda f: written(f, "w.safetensors", m.safetensors({"a": 1})),
)
weights("weights that are not there", "w.pt|no such", lambda f: f / "w.pt")
keras("a billion units", "declares|weights|allowed", m.config(units=10**9))
keras("an answer of 10**11 units", "declares|weights|allowed", m.config(units=10**11))
keras("a layer of 10**10 numbers", "numbers an image|allowed", m.config(wide))
keras("no such layer", "Nothing|allow-list", m.config(m.named("Nothing")))
keras("settings that are none", "not a readable Keras model", m.config(units="many"))
keras("brackets without end", "not a readable Keras model", deep)
keras("a list for a model", "not a readable Keras model", [1, 2, 3])
keras("a layer for a model", "not a readable Keras model", m.named("Dense", units=10))
keras("no weights", "not a readable Keras model", m.config())
keras("weights that link elsewhere", "link elsewhere|refused", m.config(), m.hdf5(linked))
keras("weights that are another file's", "other files|refused", m.config(), m.hdf5(outside))
keras("weights of a terabyte", "declares weights of|allowed", m.config(), m.hdf5(promised))
keras("weights that are no HDF5", "m.keras|not a readable", m.config(), b"not HDF5" * 99)
model(
    "two descriptions",
    "two members",
    lambda f: m.patched(
        m.described(f / "m.keras", m.config(), None, ("Config.json", b"{}")), b"Config.json", b"config.json"
    ),
)
model(
    "a member that leaves the archive",
    "unsafe name",
    lambda f: m.described(f / "m.keras", m.config(), None, ("assets/../../evil", b"x")),
)
model("images of another size", "(32, 32, 3)|(28, 28, 1)", lambda f: m.model(f / "m.keras", shape=(32, 32, 3)))
model("seven classes", "7 outputs|10 classes", lambda f: m.model(f / "m.keras", classes=7))
model("two inputs", "2 inputs", two_inputs)
model("weights that are NaN", "NaN", not_a_number)
model("a hostile source of transfer", "pickle|refused", lambda f: sourced(f), "--source", "{folder}/p.keras")


# --- names of models, and of everything else ----------------------------------------------------------------


def uri(name: str, says: str, text: str, kind: str = "URI") -> None:
    """A model by a name."""
    add(kind, name, says, lambda _: [f"--model={text}", "--n", "20"], flow="attack")


forms = "give FILE.keras"
uri("nothing", "empty|" + forms, "")
uri("spaces", "empty|" + forms, "   ")
uri("10,000 characters", "at most 1000 characters", "models:/" + "x" * 10_000)
uri("no name", forms, "models:/")
uri("no version", "models:/baseline|no such", "models:/baseline")
uri("folders up", "no such form", "models:/../../etc/passwd", "names")
uri("folders up behind a name", "no such form", "models:/baseline/../../../etc/passwd", "names")
uri("folders up, escaped", "no such form", "models:/..%2f..%2fetc/1", "names")
uri("folders up in an artifact", "no such form", f"runs:/{'0' * 32}/model/../../../../etc", "names")
uri("a newline", "cannot be printed", "models:/baseline\n/1", "names")
uri("a control sequence", "cannot be printed", "\x1b[2Jm.keras", "names")
uri("a NUL", "cannot be printed", "m.keras\0.png", "names")
uri("a run without a model", "no such form", "runs:/bad")
uri("a run that is none", "no such model", f"runs:/{'0' * 32}/model")
uri("a model that is none", "no such model", "models:/no-such-model/1")
uri("an alias that is none", "no such model", "models:/no-such-model@champion")
uri("an alias of a model that is", "no such model|no-such-alias", "models:/gauntlet-tiny@no-such-alias")
uri("a version that is none", "no such model", "models:/gauntlet-tiny/99")
uri("a version beyond all numbers", "no such form", f"models:/gauntlet-tiny/{'9' * 40}")
uri("a file's URI", "not fetched from there", "file:///etc/passwd")
uri("the network", "not fetched from there", "http://127.0.0.1:1/m.keras")
uri("a bucket", "not fetched from there", "s3://bucket/m.keras")
uri("a module that is none", "there is no module no_such_module", "no_such_module:f")
uri("a function that is none", "has no no_such_function", "math:no_such_function")
uri("a function of no images", "cannot be run", "json:loads")
uri("a registered pickle", "runs its code|sklearn|--trust", "models:/gauntlet-sklearn/1", "model")
uri("a pickle beside a registered model", "code comes with the model|--trust", "models:/gauntlet-objects/1", "model")
uri("code beside a registered model", "code comes with the model|--trust", "models:/gauntlet-code/1", "model")
uri("a module for a registered model's loader", "modules of its choice|--trust", "models:/gauntlet-module/1", "model")
uri("a registered model's folder that leads out", "no .keras or .h5 file", "models:/gauntlet-outside/1", "model")
uri(
    "a registered model whose weights were changed",
    "not those that were registered",
    "models:/gauntlet-changed/1",
    "model",
)


def called(name: str, says: str, file: str) -> None:
    """A good data set under a bad name."""
    add("names", name, says, lambda f: ["--dataset", m.npz(f).rename(f / file)])


called("a data set with a newline in its name", "cannot", "own\nset.npz")
called("a data set that is a command", "cannot|rename", "own; touch canary.npz")
called("a data set that is a query", "cannot|rename", "own' or '1'='1.npz")
called("a data set of dots", "cannot|rename", "....npz")
called("a data set that is an option", "cannot|rename", "--promote.npz")
called("a data set with folders up, escaped", "cannot|rename", "..%2f..%2fevil.npz")
called("a data set of 200 characters", "cannot|rename", "x" * 200 + ".npz")


def flags(kind: str, name: str, says: str, *words: str, flow: str = "train", **more: Any) -> None:
    """A command line alone."""
    add(kind, name, says, lambda _: words, flow=flow, **more)


flags("names", "a role with folders up", "--role", "--role", "../../x")
flags("names", "a role with spaces", "--role", "--role", "a role")
flags("names", "a role of 1,000 characters", "--role", "--role", "x" * 999)
flags("names", "a nightly's role with folders up", "--role", "--role", "../../x", flow="nightly")
flags("names", "a data set with folders up", "unknown data set", "--dataset", "../../../etc/passwd")
flags("names", "a report with folders up", "--report", "--report", "../../etc/passwd", flow="reproduce")


# --- parameters ---------------------------------------------------------------------------------------------


def attack(name: str, says: str, *words: str) -> None:
    """An attack's flags, on a model that would do."""
    add("parameter", name, says, lambda f: ["--model", m.described(f / "m.keras", m.config()), *words], flow="attack")


for budget in ("-0.1", "0", "nan", "inf", "1e400", "1/0", "0,1", "0x1", "٠.١", "", "{}", "1" * 2_000):
    attack(f"a budget of {budget[:9] or 'nothing'}", "eps", f"--eps={budget}")
attack("a budget above the range", "eps|(0, 1]", "--eps", "8", "--attack", "fgsm")
for number in ("0", "-1", "1e400", "nan", "1.5", "٣", "[20]"):
    attack(f"{number} images", "--n", f"--n={number}")
attack("10**9 images", "n|1,000,000,000", "--n", "1000000000")
attack("10**30 images", "n", "--n", "1" + "0" * 30)
attack("no such attack", "attack|fgms", "--attack", "fgms")
attack("an attack's path", "unknown attack", "--attack", "../../evil")
attack("an attack as JSON", "unknown attack", "--attack", '{"name": "pgd"}')
attack("an attack of 2,000 characters", "unknown attack", "--attack", "x" * 2_000)
attack("no such norm", "norm", "--attack", "pgd:norm=3")
attack("no such setting", "steps|max_iter", "--attack", "pgd:steps=3")
attack("a dunder for a setting", "__class__", "--attack", "pgd:__class__=3")
attack("a setting that is NaN", "std", "--attack", "noise-gaussian:std=[nan]")
attack("no iterations", "max_iter", "--attack", "pgd:max_iter=0")
attack("a target that is no class", "target", "--attack", "pgd:target=-1")
attack("no time", "--max-seconds", "--max-seconds", "0")
attack("time without end", "--max-seconds", "--max-seconds", "inf")
attack("no memory", "--max-memory", "--max-memory=-1")
attack("no such layout", "--layout", "--layout", "nchw")
attack("a model twice", "--model|twice", "--model", "another.keras")
attack("a number twice", "--n|twice", "--n", "5", "--n", "6")
attack("a switch twice", "twice", "--trust", "--no-trust")
attack("no such flag", "--nosuch", "--nosuch")
attack("a flag cut short", "--eps-ste", "--eps-ste", "0.1")
attack("a flag without a value", "--n", "--n")
flags("parameter", "no model", "--model", flow="attack")
flags("parameter", "a negative seed", "--seed", "--seed=-1")
flags("parameter", "a seed too large", "--seed", "--seed", str(2**32))
flags("parameter", "a seed that is NaN", "--seed", "--seed", "nan")
flags("parameter", "no epochs", "--epochs", "--epochs", "0")
flags("parameter", "10**9 epochs", "--epochs", "--epochs", "1000000000")
flags("parameter", "batches of 10**12", "--batch-size", "--batch-size", str(10**12))
flags("parameter", "an infinite learning rate", "--learning-rate", "--learning-rate", "inf")
flags("parameter", "a dunder for a network", "--architecture", "--architecture", "__import__('os')")
flags("parameter", "an unknown data set", "unknown data set|did you mean mnist", "--dataset", "mnits")
flags("parameter", "a data set of 2,000 characters", "--dataset", "--dataset", "x" * 2_000)
flags("parameter", "a NUL in a path", "own", "--dataset", "own\0.npz")
flags("parameter", "a negative trigger", "count", "--poisoning", "corner-trigger:count=-1", flow="poison")
flags("parameter", "a poison rate of 2", "rate", "--poisoning", "corner-trigger:rate=2", flow="poison")
flags("parameter", "a trigger that is NaN", "rate", "--poisoning", "corner-trigger:rate=nan", flow="poison")
flags("parameter", "no such defense", "defense", "--defense", "prayer", flow="defend")
flags("parameter", "no such detector", "detector", "--detector", "../../evil", flow="detect")
flags("parameter", "an allowed drop that is NaN", "--allowed", "--allowed", "nan", flow="nightly")
flags("parameter", "more images than there are, for a suite", "n|1,000,000,000", "--n", str(10**9), flow="suite")


# --- surroundings -------------------------------------------------------------------------------------------


def place(name: str, says: str, *words: str, make: Callable[[Path], Any] = lambda _: None, **more: Any) -> None:
    """An environment, or a place on disk, that will not do; `{folder}` is where the case's files are."""

    def made(folder: Path) -> Sequence[str]:
        make(folder)
        return [word.format(folder=folder) for word in words] or ["--epochs", "1"]

    add("environment", name, says, made, **more)


def file(folder: Path) -> Path:
    """A plain file where a folder is due."""
    return written(folder, "file", b"text")


reason = "the server may be down for a moment: the command was right"
for word in (
    "nonsense",
    "../../evil",
    "ftp://127.0.0.1/x",
    "sqlite:relative.db",
    "http://",
    "sqlite:///a\nb.db",
    "x" * 2_000,
):
    place(f"a store called {word[:20]!r}", "MLFLOW_TRACKING_URI|no address", env={"MLFLOW_TRACKING_URI": word})
place("a store that is no address, by flag", "--tracking-uri|no address", "--tracking-uri", "nonsense")
place(
    "a server that is not there",
    "cannot be reached|127.0.0.1:1",
    "--tracking-uri",
    "http://127.0.0.1:1",
    status=1,
    why=reason,
)
place("a store below a file", "cannot be made", "--tracking-uri", "sqlite:///{folder}/file/mlflow.db", make=file)
place(
    "a store that is text",
    "mlflow.db",
    "--tracking-uri",
    "sqlite:///{folder}/mlflow.db",
    make=lambda f: written(f, "mlflow.db", b"not a database" * 99),
)
place("a state that is a file", "GAUNTLET_STATE|cannot write", make=file, env={"GAUNTLET_STATE": "{folder}/file"})
place("a state below a file", "GAUNTLET_STATE|cannot write", make=file, env={"GAUNTLET_STATE": "{folder}/file/state"})
place("a state that cannot be written", "GAUNTLET_STATE|cannot write", env={"GAUNTLET_STATE": "/proc/self/fd"})
place("a state in no place", "GAUNTLET_STATE|cannot write", env={"GAUNTLET_STATE": "/proc/nowhere/state"})
place(
    "data in a file that holds none",
    "holds no files of mnist",
    "--dataset",
    "mnist",
    "--data-dir",
    "{folder}/file",
    make=file,
)
place("data in no place", "no such file or folder", "--dataset", "mnist", "--data-dir", "{folder}/nowhere")
place("data in an empty folder", "holds no files of mnist", "--dataset", "mnist", "--data-dir", "{folder}")
place("data below a file", "no such file", "--dataset", "mnist", "--data-dir", "{folder}/file/mnist", make=file)
