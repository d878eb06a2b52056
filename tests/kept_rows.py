"""What a survey found, as results/ holds it: NAME.md, the page, and NAME.jsonl.gz, its rows in full."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path


def keep(folder: Path, name: str, page: str, rows: Iterable[Mapping[str, object]], *, sort_keys: bool = False) -> None:
    """Writes both. The same rows are the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    lines = "".join(json.dumps(row, sort_keys=sort_keys) + "\n" for row in rows)
    (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
