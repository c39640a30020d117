"""What a person looks at: one self-contained page, and a view in the terminal."""

from limbeck.report.page import page
from limbeck.report.show import show

__all__ = ["page", "show"]
