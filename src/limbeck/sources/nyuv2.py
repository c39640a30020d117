"""NYU Depth v2: 1449 indoor photographs with depth and the kind of the room."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limbeck.data.decode import check_size
from limbeck.data.form import DepthFar, DepthForm, Form, ImageForm
from limbeck.data.layout import FileImage, ImageRef, Layout, Listing
from limbeck.data.matfile import mat_numbers
from limbeck.data.parse import Unreadable
from limbeck.data.rows import list_rows
from limbeck.data.tables import Row
from limbeck.errors import DataError
from limbeck.limits import HDF5_IMAGES, HDF5_PART, NAME

__all__ = ["NYUv2"]

SPLITS = {"trainNdxs": "train", "testNdxs": "test"}
HDF5 = b"\x89HDF\r\n\x1a\n"
HEADER = 512  # bytes of MATLAB's own before those of HDF5


@dataclass(frozen=True)
class MatArray(ImageRef):
    """One image or depth map of a MATLAB file.

    Args:
        file: the MATLAB file.
        name: of the array in it: `images` or `depths`.
        row: position, from 0.
    """

    file: FileImage
    name: str
    row: int

    def read(self) -> bytes:
        """A PPM of an image, an NPY of depth. MATLAB turns the axes round: width comes before height.

        Raises:
            Unreadable: `damaged`, `too many pixels`, or numbers that do not lie in the file itself.
        """
        with _opened(self.file.path) as file:
            values = np.ascontiguousarray(_array(file, self.name)[self.row].T)
        if values.ndim == 3:
            return b"P6 %d %d 255\n" % (values.shape[1], values.shape[0]) + values.tobytes()
        buffer = io.BytesIO()
        np.save(buffer, values)
        return buffer.getvalue()

    @property
    def stamp(self) -> tuple[Any, ...]:
        """That of the file, and the place in it."""
        return *self.file.stamp, self.name, self.row


@dataclass(frozen=True)
class NYUv2(Layout):
    """The labelled part of NYU Depth v2: images, depth in metres with its holes filled, and the kind of the room as the label.

        nyuv2/
            nyu_depth_v2_labeled.mat     images [1449, 3, 640, 480], depths [1449, 640, 480], sceneTypes, scenes (HDF5)
            splits.mat                   trainNdxs, testNdxs, from 1

    A tenth of train becomes `val`. Without `splits.mat`, images are split 80/10/10. Both go by the hash of the scene, so that
    all images of a room stay together.

    Args:
        path: the folder, or the MATLAB file of the images in it.
        resolution: pixels a side, of images and depth.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        depth_far: metres; what is farther is put there.

    Paper: Silberman et al., Indoor segmentation and support inference from RGBD images, ECCV 2012.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("h5py", "nyuv2"),)

    depth_far: DepthFar = 10.0

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and depth maps."""
        return (ImageForm(self.resolution), DepthForm(self.resolution, "m", self.depth_far))

    def read(self) -> Listing:
        """Lists the images; reads none of them."""
        path = self.root()
        path = path / "nyu_depth_v2_labeled.mat" if path.is_dir() else path
        if not path.is_file():
            raise DataError(
                f"{self.name}: no {path.name} in {path.parent.absolute()}; give the path of the MATLAB file"
            )
        return list_rows(_rows(path), path.parent, path)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """An HDF5 file; what its library stumbles on inside the block is a reason."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (Unreadable, MemoryError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged file ends in errors of nearly every kind
        raise Unreadable("damaged") from error


def _array(file: Any, name: str) -> Any:
    """An array whose numbers lie in the file itself, of which one picture takes no more memory than it may.

    Raises:
        Unreadable: the reason.
    """
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise Unreadable(f"{name} is a link")
    return _own(file[name], name)


def _own(array: Any, name: str) -> Any:
    """As `_array`, of something that was read."""
    import h5py

    if not isinstance(array, h5py.Dataset):
        raise Unreadable(f"{name} is no array")
    if array.external or array.is_virtual:
        raise Unreadable(f"the numbers of {name} lie in another file")
    if prod(array.chunks or (0,)) * array.dtype.itemsize > HDF5_PART.most:
        raise Unreadable(f"{name} is packed in parts of {HDF5_PART}")
    if array.ndim > 2:
        check_size(*array.shape[-2:])
    return array


def _rows(path: Path) -> Iterator[Row]:
    file, facts = FileImage.of(path), _facts(path)
    splits = _splits(path.with_name("splits.mat"), len(facts["scenes"]))
    for i, (scene, kind) in enumerate(zip(facts["scenes"], facts["sceneTypes"], strict=True)):
        yield (
            f"{path}, image {i + 1}",
            {
                "key": f"{scene}/{i + 1:04d}",
                "image": MatArray(file, "images", i),
                "depth": MatArray(file, "depths", i),
                "label": kind,
                "group": scene,
                **({"split": splits[i]} if i in splits else {}),
            },
        )


def _facts(path: Path) -> dict[str, list[str]]:
    """`scenes` and `sceneTypes`, once the arrays are what they should be."""
    try:
        with _opened(path) as file:
            if lacking := [name for name in ("images", "depths", "scenes", "sceneTypes") if name not in file]:
                raise Unreadable(f"it has no {', '.join(lacking)}; it has {', '.join(file) or 'nothing'}")
            arrays = {name: _array(file, name) for name in ("images", "depths", "scenes", "sceneTypes")}
            shapes = {name: array.shape for name, array in arrays.items()}
            images, depths = shapes["images"], shapes["depths"]
            whole = len(images) == 4 and images[1] == 3 and depths == (images[0], *images[2:])
            kinds = arrays["images"].dtype == np.uint8 and arrays["depths"].dtype.kind in "fui"
            lengths = {name: arrays[name].size for name in ("scenes", "sceneTypes")}
            if not (whole and kinds and set(lengths.values()) == {images[0]}):
                raise Unreadable(
                    f"expected images [N, 3, W, H] of 8 bits, depths [N, W, H], N scenes and N sceneTypes; got {shapes}"
                )
            if images[0] > HDF5_IMAGES.most:
                raise Unreadable(f"{images[0]} images, {HDF5_IMAGES}")
            return {name: [_text(file, ref, name) for ref in arrays[name][()].ravel()] for name in lengths}
    except (Unreadable, OSError) as error:
        what = f"{error}{f' ({error.__cause__})' if error.__cause__ else ''}"
        raise DataError(
            f"{path} cannot be read as a MATLAB 7.3 file (HDF5) of NYU Depth v2: {what}; fetch it again"
        ) from error


def _text(file: Any, ref: Any, name: str) -> str:
    """The text that a reference leads to: characters as numbers."""
    import h5py

    if not isinstance(ref, h5py.Reference) or not ref:
        raise Unreadable(f"{name} holds something that is no reference to a text")
    characters = _own(file[ref], f"a text of {name}")
    if characters.dtype.kind not in "ui" or characters.size > NAME.most:
        raise Unreadable(f"a text of {name} is none")
    try:
        text = "".join(map(chr, characters[()].ravel().tolist()))
        text.encode()
    except (ValueError, OverflowError):  # UnicodeEncodeError is a ValueError
        raise Unreadable(f"a text of {name} is none") from None
    return text


def _splits(path: Path, size: int) -> dict[int, str]:
    """Position from 0 to split; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        lists = _lists(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file with {', '.join(SPLITS)}: {error}") from error
    splits: dict[int, str] = {}
    for name, split in SPLITS.items():
        numbers = lists[name]
        if not (np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()):
            raise DataError(f"{path}: {name} holds something else than the numbers of images")
        if numbers.size and not (numbers.min() >= 1 and numbers.max() <= size):
            raise DataError(
                f"{path}: {name} names images {numbers.min():g} to {numbers.max():g}, but there are {size}, from 1"
            )
        images = {int(number) - 1 for number in numbers}
        if twice := sorted(images & set(splits)):
            raise DataError(f"{path} has image {twice[0] + 1} in {' and in '.join(SPLITS)}; leave it in one of them")
        splits |= dict.fromkeys(images, split)
    return splits


def _lists(path: Path) -> dict[str, Any]:
    """The numbers of `SPLITS` by name, `float64`.

    Raises:
        ValueError: the file is damaged, or lacks one.
    """
    with path.open("rb") as opened:
        newer = HDF5 in opened.read(HEADER + len(HDF5))
    if newer:
        with _opened(path) as file:
            arrays = {name: _array(file, name) for name in SPLITS if name in file}
            if any(array.dtype.kind not in "fui" or array.size > HDF5_IMAGES.most for array in arrays.values()):
                raise Unreadable("its lists are no lists of numbers")
            held = {name: array[()].ravel() for name, array in arrays.items()}
    else:
        held = mat_numbers(path.read_bytes())
    if lacking := [name for name in SPLITS if name not in held]:
        raise ValueError(f"it has no {', '.join(lacking)}; it has {', '.join(held) or 'nothing'}")
    return {name: held[name].astype(np.float64) for name in SPLITS}
