"""Tables and sizes as text."""

from collections.abc import Sequence


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    most: int = 40,
) -> str:
    """Align rows under a header, with columns two spaces apart.

    Args:
        header: Names of the columns.
        rows: Cells as strings, one per column.
        right: Names of the columns that are aligned to the right, such as numbers.
        most: If there are more rows, the middle ones are replaced by one line that
            counts them, so that a table of 10,000 rows stays short.
    """
    cut = len(rows) - most
    head = (most + 1) // 2
    shown = [*rows[:head], *rows[head + cut :]] if cut > 0 else list(rows)
    widths = [max(map(len, column)) for column in zip(header, *shown, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if title in right else cell.ljust(width)
            for title, cell, width in zip(header, cells, widths, strict=True)
        ).rstrip()
        for cells in [header, *shown]
    ]
    if cut > 0:
        lines.insert(1 + head, f"... {cut:,} more ...")
    return "\n".join(lines)


def bytes_text(count: int) -> str:
    """A number of bytes, readable: ``512 B``, ``1.5 KiB``, ``2.0 GiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if round(size, 1) < 1024:  # not 1024.0 KiB, but 1.0 MiB
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} PiB"


def counted(count: int, what: str) -> str:
    """A number of things as text: ``1 variable``, ``2,000 variables``."""
    return f"{count:,} {what}{'s' * (count != 1)}"
