"""What people say of data of their own, where its files do not tell, and how it is to be prepared."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.errors import SettingError
from gauntlet.limits import MAX_CLASSES, MAX_IMAGES, MAX_SIDE

LabelsAs = Literal["as-is", "map"]
"""Labels as they are, 0 .. K-1, or the distinct values renumbered in their order."""
SUFFIXES = (".npz", ".zip", ".parquet", ".arrow", ".csv", ".mat")
"""Files that are a data set of one's own; a folder is one as well."""
KNOWN = f"the path of a folder, {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
Channels = Literal["grey", "rgb"]
Background = Literal["black", "white"]


class Stated(BaseModel):
    """One declaration: every flow's parameters, its command line and its log have these fields."""

    model_config = ConfigDict(frozen=True)

    pixel_max: float | None = Field(None, gt=0, description="value of white in your data; else found by its values")
    labels: LabelsAs = Field("as-is", description="map: renumber the labels of your data from 0")
    classes: int | None = Field(
        None, ge=2, le=MAX_CLASSES, description="number of classes, where the data have no image of the last ones"
    )
    image_size: str | None = Field(
        None,
        pattern=r"^[0-9]{1,4}(x[0-9]{1,4})?$",
        description="resize images to SIDE or HEIGHTxWIDTH pixels (bilinear)",
    )
    keep_aspect: bool = Field(False, description="resize by one factor and keep the middle; else stretch")
    channels: Channels | None = Field(None, description="make all images grey, or rgb")
    background: Background | None = Field(None, description="what is behind transparent pixels: black or white")
    limit: int | None = Field(
        None, ge=2, le=MAX_IMAGES, description="read at most so many training and so many test images"
    )
    split_seed: int = Field(0, ge=0, lt=2**32, description="splits your data by class where it has no test images")

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels to resize to; `SettingError` when there is no such size."""
        if self.image_size is None:
            return None
        sides = [int(side) for side in self.image_size.split("x")]
        if not all(1 <= side <= MAX_SIDE for side in sides):
            raise SettingError(f"is {self.image_size}", where="--image-size", fix=f"give sides from 1 to {MAX_SIDE}")
        return sides[0], sides[-1]

    def stated(self) -> Stated:
        """These fields alone."""
        return Stated(**{name: getattr(self, name) for name in Stated.model_fields})

    def prepares(self) -> bool:
        """Whether images are to be changed or left out, or classes added."""
        return any(each is not None for each in (self.size, self.channels, self.limit, self.classes))


AS_FOUND = Stated()
