"""One HTML file from the page's parts: markup, style, modules and data, with a policy that forbids all else.

Data of a document are JSON in a block that no browser executes, with every character escaped that could end the
block. The script reads them and writes text nodes; the policy names the hashes of our own style and scripts, and
allows no other, nor any request. The first answer alone stands in the markup, escaped: it is read before the script is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from importlib import resources
from typing import Any

# In the order of their imports: a module may use those before it.
MODULES = (
    "state",
    "dom",
    "data",
    "copy",
    "theme",
    "readout",
    "scales",
    "bars",
    "plots",
    "table",
    "filters",
    "glance",
    "overview",
    "compare",
    "shapes",
    "roofline",
    "timeline",
    "trends",
    "difference",
    "proof",
    "claims",
    "devices",
    "runs",
    "downloads",
    "app",
)

# What would end a script element or a line of JavaScript, also for readers that sniff markup in JSON.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def html(payload: dict[str, Any]) -> bytes:
    """The whole page. The same payload gives the same bytes."""
    style, opening, script = asset("style.css"), asset("opening.js"), bundle()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(opening)}' '{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    parts = {
        "policy": policy,
        "style": style,
        "opening": opening,
        "answer": first_answer(payload),
        "script": script,
        "data": embedded(payload),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], asset("index.html")).encode()


def first_answer(payload: dict[str, Any]) -> str:
    """What the overview begins with, which a browser shows while it still reads the data; the script draws it anew."""
    if not payload["answers"]:
        return ""
    first, strings = payload["answers"][0], payload["strings"]
    said = "".join(f"<li>{escape(strings[place])}</li>" for place in first["sentences"])
    return (
        f'<section id="answer" aria-label="Answer"><p class="note">{escape(strings[first["machine"]])}</p>'
        f'<ul lang="{escape(payload["lang"])}">{said}</ul></section>'
    )


def embedded(payload: dict[str, Any]) -> str:
    """JSON that can stand inside a script element, whatever its texts hold."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def bundle() -> str:
    """The modules as one, which a page opened from a file can run: its own imports would be requests.

    They share one scope, so a name may be declared once in all of them; a browser refuses the script otherwise.
    """
    return "\n".join(_unlinked(asset(f"{name}.js")) for name in MODULES)


def asset(name: str) -> str:
    """A file of the page as it lies in the package."""
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _unlinked(source: str) -> str:
    source = re.sub(r'^import \{[^}]*\} from "\./\w+\.js";\n', "", source, flags=re.MULTILINE)
    return re.sub(r"^export ", "", source, flags=re.MULTILINE)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
