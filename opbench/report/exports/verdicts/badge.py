"""A badge as the endpoint of shields.io reads it: `https://img.shields.io/endpoint?url=...` of the published file.

Source: https://shields.io/badges/endpoint-badge
"""

from __future__ import annotations

from opbench.exit_codes import Exit
from opbench.report.exports.rows import as_json
from opbench.report.exports.verdicts.nouns import Judgement

LAYOUT = 1
_COLORS = {Exit.FINE: "brightgreen", Exit.BAD_NEWS: "red", Exit.NO_ANSWER: "lightgrey"}


def badge(found: Judgement) -> bytes:
    """Label, answer and color; what is right and fragile is yellow."""
    color = "yellow" if found.warned and found.exit == Exit.FINE else _COLORS[found.exit]
    return as_json({"schemaVersion": LAYOUT, "label": found.label, "message": found.answer, "color": color})
