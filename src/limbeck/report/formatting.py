"""Numbers as a person reads them."""

__all__ = ["count", "decimals", "duration", "number", "size"]


def count(value: int) -> str:
    """A whole number with thousands separated.

    Example:
        >>> count(5012)
        '5,012'
    """
    return f"{value:,}"


def size(nbytes: int) -> str:
    """Bytes in SI units, two or three digits.

    Example:
        >>> size(999), size(13_824), size(1_382_400), size(2_500_000_000)
        ('999 bytes', '14 kB', '1.4 MB', '2.5 GB')
    """
    if nbytes < 1000:
        return f"{nbytes} bytes"
    power = next((p for p in (1, 2) if nbytes / 1000**p < 999.5), 3)
    value, unit = nbytes / 1000**power, ("kB", "MB", "GB")[power - 1]
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(0.42), duration(48.2), duration(200.0), duration(3900.0)
        ('0.4 s', '48 s', '3 min 20 s', '1 h 5 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def decimals(largest: float) -> int:
    """Digits after the point for a column whose largest absolute value is `largest`.

    Example:
        >>> decimals(46.5), decimals(3.2), decimals(0.71)
        (1, 2, 3)
    """
    return 1 if largest >= 10 else 2 if largest >= 1 else 3


def number(value: float, digits: int) -> str:
    """`value` with `digits` after the point.

    Example:
        >>> number(21.94, 1)
        '21.9'
    """
    return f"{value:.{digits}f}"
