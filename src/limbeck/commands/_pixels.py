"""How images are learned, as a command line says it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from limbeck.commands._options import Command

if TYPE_CHECKING:
    from limbeck.core import Pixels

__all__ = ["Pixelled"]


@dataclass(frozen=True, kw_only=True)
class Pixelled(Command):
    """A command that distils, and how images are learned by methods that learn them.

    Args:
        views: how often a step sees the images, each cropped, mirrored and noised by a draw of its own; a step costs as many times as
            much. 0 shows them as they are.
        crop: the smallest side of a view's crop, as a share of the image's.
        noise: standard deviation of the noise of a view, where pixels go from 0 to 1.
        form: raw pixels; pyramid, a sum of resolutions of which finer ones join as steps go on; dct, low frequencies alone.
        levels: resolutions of the pyramid, each half as wide as the next.
        grown: the share of the steps after which the whole pyramid takes part.
        window: frequencies a side of dct.
        colours: rgb, or decorrelated: the principal axes of the colours of the data.
    """

    views: int = field(default=0, metadata={"name": "pixels.views"})
    crop: float = field(default=0.8, metadata={"name": "pixels.crop"})
    noise: float = field(default=0.02, metadata={"name": "pixels.noise"})
    form: Literal["raw", "pyramid", "dct"] = field(default="raw", metadata={"name": "pixels.form"})
    levels: int = field(default=4, metadata={"name": "pixels.levels"})
    grown: float = field(default=0.5, metadata={"name": "pixels.grown"})
    window: int = field(default=32, metadata={"name": "pixels.window"})
    colours: Literal["rgb", "decorrelated"] = field(default="rgb", metadata={"name": "pixels.colours"})

    def learned_as(self) -> "Pixels":
        """The options as one.

        Raises:
            ConfigError: they do not go together.
        """
        from limbeck.core import Pixels

        return Pixels(self.views, self.crop, self.noise, self.form, self.levels, self.grown, self.window, self.colours)
