"""How report.html looks: on a screen, in the dark, on a phone and on paper."""

from __future__ import annotations

from opbench.report.bars import ACCENT
from opbench.report.marks import DARK, PALETTE

_LAYOUT = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #59626b; --paper: #fff; --rule: #d5d9dd; --shade: #f4f5f6;
  --link: #0050a0; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a0aab3; --paper: #161616; --rule: #3c3f42; --shade: #232527; --link: #8cc4ff;
    --accent: #2c2a1c; }
}
* { box-sizing: border-box; }
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 1320px; padding: 1rem 1.5rem 4rem; overflow-wrap: anywhere; }
a { color: var(--link); }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .6rem; }
h1 { margin-top: .5rem; font-size: 1.6rem; }
h2 { font-size: 1.25rem; }
h3 { font-size: 1rem; }
h2 .here, h3 .here { visibility: hidden; margin-left: .4rem; text-decoration: none; font-weight: 400; }
h2:hover .here, h3:hover .here, .here:focus { visibility: visible; }
nav { border: 1px solid var(--rule); border-radius: 6px; padding: .4rem 1rem; margin: 1.2rem 0; }
nav summary { cursor: pointer; font-weight: 600; }
nav ul { columns: 3 14rem; padding-left: 1.2rem; margin: .4rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { border: 1px solid var(--rule); padding: .25rem .5rem; text-align: left; vertical-align: top; }
td { white-space: nowrap; }
th { background: var(--shade); }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
code, pre { background: var(--shade); font-size: 12.5px; }
h2 code, h3 code { font-size: .9em; }
td:first-child:not(.long) code { white-space: nowrap; }
pre { overflow-x: auto; padding: .6rem; border-radius: 4px; }
details.section > summary { cursor: pointer; }
details.section > summary > :is(h2) { display: inline-block; margin-bottom: .2rem; }
svg { max-width: 100%; height: auto; }
@media (max-width: 700px) {
  body { padding: .6rem .75rem 3rem; font-size: 14px; }
  h1 { font-size: 1.25rem; }
  nav ul { columns: 1; }
}
@media print {
  @page { margin: 11mm; }
  body { max-width: none; padding: 0; font-size: 9px; line-height: 1.35; }
  nav, details.section:not([open]), .here { display: none; }
  h1 { font-size: 15px; margin: 0 0 4px; }
  h2 { font-size: 12px; margin: 12px 0 3px; }
  h3 { font-size: 9.5px; margin: 7px 0 2px; }
  h1, h2, h3 { break-after: avoid; }
  p { margin: 2px 0; }
  .wide { overflow: visible; }
  table { width: 100%; font-size: 7.5px; }
  th, td, td.long { padding: 1px 3px; white-space: normal; overflow-wrap: break-word; min-width: 0; }
  td.long, td.long code { overflow-wrap: anywhere; }
  table:has(th:nth-child(11)) :is(th, td, code) { overflow-wrap: anywhere; font-size: 6.5px; }
  td:first-child:not(.long) code, code, pre { white-space: pre-wrap; font-size: 7.5px; }
  td:first-child:not(.long) code { white-space: normal; }
  p:has(> svg) { display: inline-block; width: 49%; vertical-align: top; }
  p:has(> svg.broad) { width: 100%; }
  svg { max-height: 125mm; width: 100%; }
  svg, tr { break-inside: avoid; }
  * { print-color-adjust: exact; }
}
"""

# Of a chart, which is drawn for white paper: its own colour -> what stands in its place in the dark.
_DARK = {
    "#fff": "var(--paper)",
    "white": "var(--paper)",
    "#000": "var(--ink)",
    "black": "var(--ink)",
    "#777777": "#9a9a9a",
    "#999999": "#777777",
    "#888": "#8a8a8a",
    "#ddd": "var(--rule)",
    "#dddddd": "var(--rule)",
    ACCENT: "var(--accent)",
    **dict(zip(PALETTE, DARK, strict=True)),
}


def style() -> str:
    """The style sheet. Charts keep their bytes: in the dark, rules take the place of their colours."""
    rules = "\n".join(
        f'  svg [{part}="{light}"] {{ {part}: {dark}; }}'
        for light, dark in _DARK.items()
        for part in ("fill", "stroke")
    )
    return f"{_LAYOUT}@media screen and (prefers-color-scheme: dark) {{\n{rules}\n}}\n"
