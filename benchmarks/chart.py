"""Bars as SVG, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, NAME, LINE, GAP = 760, 110, 22, 34
LONGEST = WIDTH - NAME - 190

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .case { font-weight: 600; fill: #57606a }
  .bar { fill: #8c959f } .pgpull { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .case { fill: #9198a1 } .bar { fill: #656c76 } .pgpull { fill: #3fb950 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One bar in the group of a case."""

    case: str
    name: str
    value: float
    label: str


def drawn(bars: Sequence[Bar], title: str) -> str:
    """Draw bars in groups, each group to a scale of its own.

    Args:
        bars: in the order in which they are to stand.
        title: what stands above.
    """
    parts, y = [f'<text class="title" x="8" y="22">{escape(title)}</text>'], 30
    for case in dict.fromkeys(bar.case for bar in bars):
        group = [bar for bar in bars if bar.case == case]
        y += GAP
        parts.append(f'<text class="case" x="8" y="{y - 8}">{escape(case)}</text>')
        most = max(bar.value for bar in group)
        for bar in group:
            parts += _bar(bar, y, bar.value / most)
            y += LINE
    size = f'width="{WIDTH}" height="{y + 12}" viewBox="0 0 {WIDTH} {y + 12}"'
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return f"{head}\n<style>{STYLE}</style>\n{body}\n</svg>\n"


def _bar(bar: Bar, y: int, share: float) -> list[str]:
    length = max(2, round(share * LONGEST))
    kind = "bar pgpull" if bar.name == "pgpull" else "bar"
    return [
        f'<text x="{NAME}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect class="{kind}" x="{NAME + 8}" y="{y + 3}" width="{length}" height="{LINE - 6}" rx="2"/>',
        f'<text x="{NAME + 16 + length}" y="{y + 15}">{escape(bar.label)}</text>',
    ]
