"""A Markdown report as one HTML file that needs nothing else: charts inside, no script, nothing fetched.

The page is the Markdown's own rendering, so both say the same, and what is inert there is inert here: raw HTML in the
text is shown as text. A content security policy forbids whatever might slip through.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --rule: #ccc; --shade: #f4f4f4; --link: #0050a0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #161616; --rule: #444; --shade: #242424; --link: #8cc4ff; }
}
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 1200px; padding: 1rem 1.5rem 4rem; }
a { color: var(--link); }
nav ul { columns: 3 14rem; padding-left: 1.2rem; }
h1, h2, h3 { line-height: 1.25; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--rule); padding: .25rem .5rem; text-align: left; vertical-align: top; }
th { background: var(--shade); }
code, pre { background: var(--shade); font-size: 12.5px; }
h2 code { font-size: .9em; }
td:first-child code { white-space: nowrap; }
pre { overflow-x: auto; padding: .6rem; }
svg { background: #fff; max-width: 100%; height: auto; }
@media print { body { max-width: none; } nav { display: none; } pre { white-space: pre-wrap; }
  svg, tr { break-inside: avoid; } }
"""


class _Renderer(RendererHTML):
    """Charts in place of links to them, headings that can be linked to, tables that scroll by themselves."""

    def image(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        words = self.renderInlineAsText(token.children, options, env)
        drawn = env["pictures"].get(token.attrs["src"])
        return f"<em>{escape(words)}</em>" if drawn is None else inlined(drawn, words, next(env["numbers"]))

    def heading_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token, inside = tokens[index], tokens[index + 1]
        words = self.renderInlineAsText(inside.children or [], options, env)
        env["headings"].append((token.tag, words))
        return f'<{token.tag} id="s{len(env["headings"])}">'

    def table_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return '<div class="wide" tabindex="0" role="region" aria-label="table"><table>\n'

    def table_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</table></div>\n"


def page(markdown: str, pictures: Mapping[str, str]) -> bytes:
    """The Markdown as HTML; `pictures` are the SVG texts of the paths that it shows."""
    env: dict[str, Any] = {"pictures": pictures, "headings": [], "numbers": itertools.count()}
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    body = parser.render(markdown, env)
    headings: list[tuple[str, str]] = env["headings"]
    title = headings[0][1] if headings else "opbench"
    sections = "".join(
        f'<li><a href="#s{number}">{escape(words)}</a></li>'
        for number, (tag, words) in enumerate(headings, start=1)
        if tag == "h2"
    )
    navigation = f'<nav aria-label="sections"><ul>{sections}</ul></nav>' if sections else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{navigation}\n"
        f"<main>\n{body}</main>\n</body>\n</html>\n"
    ).encode()


def inlined(svg: str, words: str, number: int) -> str:
    """A chart as part of a page: named for a screen reader, its clip paths told from those of other charts."""
    for name in dict.fromkeys(re.findall(r'<clipPath id="([A-Za-z0-9_-]+)"', svg)):
        own = f"c{number}-{name}"
        svg = svg.replace(f'<clipPath id="{name}"', f'<clipPath id="{own}"').replace(f"url(#{name})", f"url(#{own})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(words, quote=True)}" ', 1)
