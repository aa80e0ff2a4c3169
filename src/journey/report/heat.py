"""A field of squares, as strong as their numbers, with words beside each row and above each column."""

from math import cos, isfinite, radians, sin

from journey.report.blocks import Heat
from journey.report.drawing import WIDTH, Drawing, escape, short, text, width

LONGEST, LARGEST = 12, 26.0  # letters of a label; the side of a square
TURN = 55  # degrees by which the words above are turned, so that neighbours do not meet


def heat(block: Heat) -> Drawing | None:
    """The drawing of a block; None where there is no square."""
    if not block.rows or not block.columns:
        return None
    above, beside = ([short(label, LONGEST) for label in labels] for labels in (block.columns, block.rows))
    reach = max(map(width, above))  # of the words above, along their line
    left = 14.0 + max(map(width, beside))
    over = reach * cos(radians(TURN)) + 6  # by how much the last word stands out on the right
    side = min(LARGEST, (WIDTH - left - over) / len(above))
    top = 26 + reach * sin(radians(TURN))
    parts = [
        text(left, 12, f"→ {short(block.across, 24)}", "axis", "start"),
        text(left - 8, top - 6, f"↓ {short(block.down, 12)}", "axis", "end"),
    ]
    for j, label in enumerate(above):
        x, y = left + side * (j + 0.6), top - 5
        turned = f'transform="rotate(-{TURN} {x:.1f} {y:.1f})"'
        parts.append(f'<text class="name" x="{x:.1f}" y="{y:.1f}" text-anchor="start" {turned}>{escape(label)}</text>')
    for i, (label, values) in enumerate(zip(beside, block.values, strict=True)):
        y = top + side * i
        parts.append(text(left - 8, y + side / 2 + 4, label, "name", "end"))
        for j, value in enumerate(values):
            said = f"{block.rows[i]} ← {block.columns[j]}: {value:.2f}"
            parts.append(_square(left + side * j, y, side, value, said))
    high, wide = side * len(beside), side * len(above)
    parts.append(f'<rect class="frame" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}"/>')
    most = [max(range(len(values)), key=values.__getitem__) for values in block.values]
    spoken = "; ".join(f"{row} most {block.columns[j]}" for row, j in zip(block.rows, most, strict=True))
    return Drawing(f"{block.title}: {block.down} by {block.across}. {spoken}", top + high + 8, parts)


def _square(x: float, y: float, side: float, value: float, said: str) -> str:
    share = min(1.0, max(0.0, value)) if isfinite(value) else 0.0
    place = f'x="{x:.2f}" y="{y:.2f}" width="{side - 0.6:.2f}" height="{side - 0.6:.2f}"'
    return f'<rect class="square" fill-opacity="{share:.3f}" {place}><title>{escape(said)}</title></rect>'
