"""NYU Depth v2: 1449 indoor photographs with depth and the kind of the room."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limbeck.data.form import DepthForm, Form, ImageForm
from limbeck.data.layout import FileImage, ImageRef, Layout, Listing
from limbeck.data.rows import list_rows
from limbeck.data.tables import Row
from limbeck.errors import DataError

__all__ = ["NYUv2"]

SPLITS = {"trainNdxs": "train", "testNdxs": "test"}


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
        """A PPM of an image, an NPY of depth. MATLAB turns the axes round: width comes before height."""
        import h5py

        with h5py.File(self.file.path) as file:
            values = np.ascontiguousarray(file[self.name][self.row].T)
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
        depth_far: metres; what is farther is put there.

    Paper: Silberman et al., Indoor segmentation and support inference from RGBD images, ECCV 2012.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("h5py", "nyuv2"),)

    depth_far: float = 10.0

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
    import h5py

    try:
        with h5py.File(path) as file:
            if lacking := [name for name in ("images", "depths", "scenes", "sceneTypes") if name not in file]:
                raise DataError(f"{path} has no {', '.join(lacking)}; it has {', '.join(file) or 'nothing'}")
            shapes = {name: file[name].shape for name in ("images", "depths")}
            images, depths = shapes.values()
            eight_bits = file["images"].dtype == np.uint8
            facts = {name: [_text(file[ref]) for ref in file[name][()].ravel()] for name in ("scenes", "sceneTypes")}
    except OSError as error:
        raise DataError(f"{path} cannot be read as a MATLAB 7.3 file (HDF5): {error}; fetch it again") from error
    lengths = {name: len(values) for name, values in facts.items()}
    whole = len(images) == 4 and images[1] == 3 and depths == (images[0], *images[2:])
    if not (whole and eight_bits and set(lengths.values()) == {images[0]}):
        raise DataError(
            f"{path}: expected images [N, 3, W, H] of 8 bits, depths [N, W, H], N scenes and N sceneTypes; got {shapes}, {lengths}"
        )
    return facts


def _text(characters: Any) -> str:
    return "".join(chr(code) for code in characters[()].ravel())


def _splits(path: Path, size: int) -> dict[int, str]:
    """Position from 0 to split; empty where there is no such file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        return {}
    try:
        held = loadmat(path)
        splits = {int(i) - 1: split for name, split in SPLITS.items() for i in held[name].ravel()}
    except (KeyError, ValueError, TypeError, OSError, NotImplementedError, MatReadError) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file with {', '.join(SPLITS)}: {error}") from error
    if splits and not (min(splits) >= 0 and max(splits) < size):
        raise DataError(f"{path} names images {min(splits) + 1} to {max(splits) + 1}, but there are {size}")
    return splits
