"""A Markdown report as one HTML file that needs nothing else: charts inside, no script, nothing fetched.

The page is the Markdown's own rendering, so both say the same, and what is inert there is inert here: raw HTML in the
text is shown as text. A content security policy forbids whatever might slip through.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from opbench.report.page_style import style
from opbench.slug import slug

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

# Texts longer than this may break anywhere, for they are hashes, versions and messages.
_LONG = 40


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
        name = env["anchors"].name(token.tag, words)
        env["headings"].append((token.tag, words, name))
        return f'<{token.tag} id="{name}">'

    def heading_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tag = tokens[index].tag
        _, words, name = env["headings"][-1]
        here = "" if tag == "h1" else f'<a class="here" href="#{name}" aria-label="Link to {escape(words)}">#</a>'
        return f"{here}</{tag}>\n"

    def table_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return '<div class="wide" tabindex="0" role="region" aria-label="table"><table>\n'

    def table_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def td_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return '<td class="long">' if len(tokens[index + 1].content) > _LONG else "<td>"


class _Anchors:
    """Names of headings that stay when others come or go: what a heading says, and below which it stands."""

    def __init__(self) -> None:
        self._section = ""
        self._taken: set[str] = set()

    def name(self, tag: str, words: str) -> str:
        own = slug(words, 100)
        if tag == "h2":
            self._section = own
        elif tag != "h1" and self._section:
            own = f"{self._section}--{own}"
        number, unique = 2, own
        while unique in self._taken:
            number, unique = number + 1, f"{own}-{number}"
        self._taken.add(unique)
        return unique


def page(markdown: str, pictures: Mapping[str, str], folded: Collection[str] = ()) -> bytes:
    """The Markdown as HTML; `pictures` are the SVG texts of the paths that it shows.

    What stands before the first section comes before the table of contents. Sections whose heading is in `folded` are
    shown when they are asked for, and printed only if they are open.
    """
    env: dict[str, Any] = {"pictures": pictures, "headings": [], "numbers": itertools.count(), "anchors": _Anchors()}
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    opening, *sections = re.split(r"(?=<h2 id=)", parser.render(markdown, env))
    headings: list[tuple[str, str, str]] = env["headings"]
    title = headings[0][1] if headings else "opbench"
    titles = [(words, name) for tag, words, name in headings if tag == "h2"]
    listed = "".join(f'<li><a href="#{name}">{escape(words)}</a></li>' for words, name in titles)
    contents = (
        f'<nav aria-label="sections"><details><summary>Contents</summary><ul>{listed}</ul></details></nav>\n'
        if titles
        else ""
    )
    body = "".join(
        _folded(section) if words in folded else section for section, (words, _) in zip(sections, titles, strict=True)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style()}</style>\n</head>\n<body>\n"
        f"<main>\n{opening}{contents}{body}</main>\n</body>\n</html>\n"
    ).encode()


def _folded(section: str) -> str:
    heading, rest = section.split("</h2>\n", 1)
    return f'<details class="section"><summary>{heading}</h2></summary>\n{rest}</details>\n'


def inlined(svg: str, words: str, number: int) -> str:
    """A chart as part of a page: named for a screen reader, its clip paths told from those of other charts."""
    for name in dict.fromkeys(re.findall(r'<clipPath id="([A-Za-z0-9_-]+)"', svg)):
        own = f"c{number}-{name}"
        svg = svg.replace(f'<clipPath id="{name}"', f'<clipPath id="{own}"').replace(f"url(#{name})", f"url(#{own})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(words, quote=True)}" ', 1)
