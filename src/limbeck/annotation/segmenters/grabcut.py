"""Masks without a model: GrabCut of OpenCV, started from a rectangle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.annotation.annotator import Segmenter
from limbeck.constraints import Count, Ge, Interval
from limbeck.spaces.hub import optional

__all__ = ["GrabCut"]


@dataclass(frozen=True)
class GrabCut(Segmenter):
    """What differs in colour from the border of an image, cut out with few and smooth edges.

    Pixels outside of an inset rectangle are background. A mixture of five Gaussians of colour is fitted to it, another to
    what is inside, and a minimum cut gives each pixel inside to one of them; fit and cut are repeated. So it finds one
    object in the middle before a background of other colours, and knows nothing of what the object is.

    Args:
        inset: the rectangle's distance from the edges, as a share of the sides.
        iterations: how often fit and cut are repeated.
        side: pixels; larger images are shrunk to it, as the cut is slow.

    Raises:
        ConfigError: a rectangle without inside or outside, or less than one iteration.

    Example:
        >>> from PIL import Image, ImageDraw
        >>> image = Image.linear_gradient("L").resize((40, 40)).convert("RGB")
        >>> ImageDraw.Draw(image).rectangle((12, 12, 27, 27), "red")
        >>> int(GrabCut().segment([image], [None])[0].sum())
        256

    Paper: Rother et al., GrabCut: interactive foreground extraction using iterated graph cuts, SIGGRAPH 2004.
    """

    inset: Annotated[float, Interval(gt=0, lt=0.5)] = 0.05
    iterations: Count = 5
    side: Annotated[int, Ge(16)] = 256

    requires = (("cv2", "masks"),)

    @property
    def what(self) -> str:
        """That nothing is recognised."""
        return "these masks come from colours alone (GrabCut): what differs from the border of an image is taken for its object"

    @property
    def versions(self) -> dict[str, str]:
        """Of OpenCV."""
        return {"opencv": str(_opencv().__version__)}

    def segment(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[NDArray[Any]]:
        """The mask of each image; without object where the cut finds none."""
        return [self._cut(image) for image in images]

    def _cut(self, image: Any) -> NDArray[np.bool_]:
        from PIL import Image

        width, height = image.size
        share = min(1.0, self.side / max(width, height))
        small = image.resize((max(1, round(width * share)), max(1, round(height * share))), Image.Resampling.BOX)
        found = Image.fromarray(np.uint8(255) * self._inside(np.asarray(small)))
        smooth = np.asarray(found.resize((width, height), Image.Resampling.BILINEAR))
        inside: NDArray[np.bool_] = smooth >= 128
        return inside

    def _inside(self, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        cv2 = _opencv()
        height, width = pixels.shape[:2]
        x, y = (max(1, round(self.inset * length)) for length in (width, height))
        marks = np.zeros((height, width), np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        try:
            rectangle = (x, y, width - 2 * x, height - 2 * y)
            cv2.grabCut(pixels, marks, rectangle, *models, self.iterations, cv2.GC_INIT_WITH_RECT)
        except cv2.error:  # too small, or of one colour
            return np.zeros((height, width), np.bool_)
        return np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _opencv() -> Any:
    return optional("cv2", "opencv-python-headless", "the segmenter 'grabcut'", "pip install 'limbeck[masks]'")
