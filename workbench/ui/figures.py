"""Figures as people read them: one unit, few digits, no exponent."""


def size(count: int) -> str:
    """Bytes in decimal units, as disks and download pages count them: "1.9 GB"."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{_digits(value)} {unit}" if unit != "B" else f"{count} B"
        value /= 1000
    return f"{_digits(value)} TB"


def size_of(done: int, total: int) -> str:
    """Progress in the unit of the total: "1.2 of 1.9 GB"."""
    number, unit = size(total).split(" ")
    scale = total / float(number) if total else 1
    decimals = len(number.partition(".")[2])
    return f"{done / scale:.{decimals}f} of {number} {unit}"


def percent(part: float, whole: float) -> int:
    """Part of the whole in whole percent, 0 to 100."""
    return max(0, min(100, int(100 * part / whole))) if whole > 0 else 0


def seconds(value: float) -> str:
    """A latency: "85 ms", "0.31 s", "4.2 s", "75 s"."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 0.995:
        return f"{value:.2f} s"
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"


def duration(value: float) -> str:
    """An age: "8 s", "3 min", "2 h 5 min", "4 d 2 h". The script counts on from it in the same words."""
    total = int(value)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60} min"
    return f"{total // 86400} d {total % 86400 // 3600} h"


def count(value: int, singular: str, plural: str = "") -> str:
    """A number with its noun: "1 request", "1,204 tokens"."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def parameters(value: int) -> str:
    """A model's parameter count: "860 K", "1.7 B"."""
    for unit, scale in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if value >= scale * 0.9995:
            return f"{_digits(value / scale)} {unit}"
    return str(value) if value else "–"


def context(tokens: int) -> str:
    """A context length: "512", "32k"; powers of two in their own thousands."""
    if tokens >= 1024 and tokens % 1024 == 0:
        return f"{tokens // 1024}k"
    return f"{tokens / 1000:.0f}k" if tokens >= 10_000 else f"{tokens:,}" if tokens else "–"


def rate(tokens_per_s: float) -> str:
    """A decode rate: "41.2 tokens/s"."""
    return f"{tokens_per_s:.1f} tokens/s" if tokens_per_s < 100 else f"{tokens_per_s:,.0f} tokens/s"


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
