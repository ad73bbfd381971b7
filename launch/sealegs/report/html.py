"""Small pure functions that write HTML. Whatever comes from a run is escaped here, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape as escape

Row = Sequence[str | tuple[str, str]]


def paragraph(content: str, classes: str = "") -> str:
    """Plain text as a paragraph."""
    return f'<p class="{classes}">{escape(content)}</p>' if classes else f"<p>{escape(content)}</p>"


def section(title: str, lead: str, *parts: str) -> str:
    """A heading, a sentence about what one sees, and the parts."""
    anchor = escape(title.lower().replace(" ", "-"), quote=True)
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{paragraph(lead)}{"".join(parts)}</section>\n'


def figure(drawing: str, caption: str = "", wide: bool = False) -> str:
    """A drawing on a card. A wide one scrolls sideways on a narrow screen."""
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    inner = f'<div class="scroll">{drawing}</div>' if wide else drawing
    return f'<figure class="{"wide" if wide else "plain"}">{inner}{note}</figure>'


def cards(*figures: str) -> str:
    """Figures beside each other where there is room."""
    return f'<div class="cards">{"".join(figures)}</div>'


def tiles(items: Sequence[tuple[str, str]]) -> str:
    """Key figures: (value, what it is)."""
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in items
    )
    return f'<div class="tiles">{inner}</div>' if items else ""


def table(head: Sequence[str], rows: Sequence[Row], numeric: frozenset[int] | set[int] = frozenset()) -> str:
    """A table that turns into cards on a phone. A cell is text, or (text, class); `numeric` columns align right."""
    names = "".join(f"<th{_class(k in numeric)}>{escape(name)}</th>" for k, name in enumerate(head))
    body = "".join(
        f"<tr>{''.join(_cell(head[k], k in numeric, cell) for k, cell in enumerate(row))}</tr>" for row in rows
    )
    return f'<table class="stack"><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>'


def pairs(items: Sequence[tuple[str, str]]) -> str:
    """Names and values, two columns."""
    body = "".join(f"<tr><th>{escape(name)}</th><td class='wrap'>{escape(value)}</td></tr>" for name, value in items)
    return f"<table><tbody>{body}</tbody></table>"


def folded(title: str, content: str) -> str:
    """Content behind a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def film(frames: Sequence[str], rate_hz: float, caption: str) -> str:
    """A frame player of data URIs; a single image (an animated GIF) is shown as it is."""
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="{frames[0]}" alt="{escape(caption or "film of an episode", quote=True)}">'
    if len(frames) == 1:
        return f'<figure class="film">{image}{note}</figure>'
    slider = f'<input type="range" min="0" max="{len(frames) - 1}" value="0" step="1" aria-label="frame">'
    controls = f'<div class="player" hidden><button type="button">Play</button>{slider}<output>0.0 s</output></div>'
    block = f'<script type="application/json">{script_json(list(frames))}</script>'
    return f'<figure class="film" data-rate="{rate_hz:g}">{image}{controls}{block}{note}</figure>'


def script_json(value: object) -> str:
    """JSON that cannot close the script element that holds it."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _cell(name: str, numeric: bool, cell: str | tuple[str, str]) -> str:
    content, classes = (cell, "number" if numeric else "") if isinstance(cell, str) else cell
    return f'<td class="{classes}" data-name="{escape(name, quote=True)}">{escape(content)}</td>'
