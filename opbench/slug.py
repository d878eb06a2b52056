"""Names that are safe as a file's on any system."""

from __future__ import annotations

import re


def slug(text: str, limit: int = 40) -> str:
    """Letters, digits and single hyphens: a part of a file's name on any system.

    >>> slug("Intel(R) Xeon(R) Processor")
    'intel-r-xeon-r-processor'
    """
    kept = re.sub(r"[^a-z0-9]+", "-", text[: 4 * limit].lower())[:limit].strip("-")
    return kept or "unnamed"
