"""Draws collapsed stacks as a flame graph: plain SVG, no scripts, full names as tooltips.

Knows stacks and shapes. Refuses to know where the stacks come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr
from zlib import crc32

WIDTH = 1400
ROW = 17
CHAR = 6.6
MIN_WIDTH = 0.4
HUES = {"waygate_mcp": 18, "uvicorn": 205, "uvloop": 205, "asyncio": 150, "json": 55, "msgspec": 55}
OTHER_HUE = 285

Stack = tuple[str, ...]


@dataclass
class Node:
    """A function under its callers: samples in it and in all it called."""

    samples: int = 0
    children: dict[str, "Node"] = field(default_factory=dict)


def draw(stacks: Mapping[Stack, int], title: str) -> str:
    """Draw stacks (outermost frame first, samples) with the root on top."""
    root = Node()
    depth = 1
    for stack, count in stacks.items():
        root.samples += count
        node = root
        for name in stack:
            node = node.children.setdefault(name, Node())
            node.samples += count
        depth = max(depth, len(stack) + 1)
    height = (depth + 2) * ROW
    shapes: list[str] = []
    _place(shapes, root, "all", (0.0, 0), WIDTH / max(root.samples, 1), root.samples)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="monospace" font-size="11">'
    )
    caption = f'<text x="4" y="13" font-size="13">{escape(title)}</text>'
    return "\n".join([head, caption, *shapes, "</svg>"]) + "\n"


def _place(
    shapes: list[str], node: Node, name: str, at: tuple[float, int], scale: float, whole: int
) -> None:
    """Draw one function and all below it."""
    left, level = at
    width = node.samples * scale
    if width < MIN_WIDTH:
        return
    top = (level + 1) * ROW
    share = f"{name} · {node.samples} samples, {node.samples / max(whole, 1):.1%}"
    label = escape(name[: int(width / CHAR)]) if width > 3 * CHAR else ""
    shapes.append(
        f"<g><title>{escape(share)}</title>"
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}" '
        f"fill={quoteattr(_colour(name))}/>"
        f'<text x="{left + 2:.1f}" y="{top + 12}">{label}</text></g>'
    )
    for child_name, child in sorted(node.children.items()):
        _place(shapes, child, child_name, (left, level + 1), scale, whole)
        left += child.samples * scale


def _colour(name: str) -> str:
    """One hue for each package, a shade for each function."""
    package = name.rpartition("(")[2].partition("/")[0]
    hue = HUES.get(package, OTHER_HUE)
    return f"hsl({hue},70%,{66 + crc32(name.encode()) % 16}%)"
