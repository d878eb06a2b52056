"""One HTML file from the page's parts: markup, style, modules and data, with a policy that forbids all else.

Data of a document are JSON in a block that no browser executes, with every character escaped that could end the
block. The script reads them and writes text nodes; the policy names the hashes of our own style and script, and
allows no other, nor any request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
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
    "runs",
    "downloads",
    "app",
)

# What would end a script element or a line of JavaScript, also for readers that sniff markup in JSON.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def html(payload: dict[str, Any]) -> bytes:
    """The whole page. The same payload gives the same bytes."""
    style, script = asset("style.css"), bundle()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    parts = {"policy": policy, "style": style, "script": script, "data": embedded(payload)}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], asset("index.html")).encode()


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
