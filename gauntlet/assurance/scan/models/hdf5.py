"""What an HDF5 file holds: Keras configurations in attributes, and data that lies in other files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from gauntlet.assurance.scan.models import configs
from gauntlet.assurance.scan.models.rules import Look

if TYPE_CHECKING:
    import h5py

_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, SystemError, UnicodeError)
_CONFIGS = ("model_config", "training_config", "layer_config")


def scan_hdf5(stream: BinaryIO, file: str, where: str, look: Look) -> None:
    """Note configurations and links of an HDF5 file; `where` is its place in an archive, or nothing."""
    import h5py

    try:
        with h5py.File(stream, "r") as opened:
            _attributes(opened, file, where, look)
            _links(opened, file, where, look)
    except _BROKEN as error:
        look.error(file, f"{where + ' is ' if where else ''}not an HDF5 file that can be read: {error}")


def _attributes(opened: h5py.File, file: str, where: str, look: Look) -> None:
    for name in _CONFIGS:
        if name not in opened.attrs:
            continue
        value = opened.attrs[name]
        if isinstance(value, str | bytes):
            configs.scan_text(value, file, f"{where}:{name}" if where else name, look)
        else:
            look.error(file, f"{name} is not a text")


def _links(opened: h5py.File, file: str, where: str, look: Look) -> None:
    """Go over every link once; a link may lead to another file, and so may a data set's storage."""
    import h5py

    left = look.limits.files
    inside = f"{where}:" if where else ""

    def visit(name: str, link: Any) -> bool | None:
        nonlocal left
        left -= 1
        if left < 0:
            look.error(file, f"{inside}more than {look.limits.files:,} objects")
            return True
        if isinstance(link, h5py.ExternalLink):
            look.hit("GM009", file, f"{inside}{name} is a link to {link.filename!r}")
        elif isinstance(link, h5py.HardLink):
            try:
                _storage(opened[name], file, f"{inside}{name}", look)
            except _BROKEN as error:  # h5py loses errors that cross its own code
                look.error(file, f"{inside}{name} cannot be read: {error}")
        return None

    opened.visititems_links(visit)


def _storage(item: Any, file: str, name: str, look: Look) -> None:
    import h5py

    if not isinstance(item, h5py.Dataset):
        return
    for outside, *_ in item.external or ():
        look.hit("GM009", file, f"{name} is stored in {outside!r}")
    for source in item.virtual_sources() if item.is_virtual else ():
        if source.file_name != ".":
            look.hit("GM009", file, f"{name} is a view of {source.file_name!r}")
