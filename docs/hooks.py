"""What the site's build adds to the pages: generated reference parts, reports of the reference runs, code marks.

mkdocs calls the functions named `on_...`. Pages stay plain Markdown that also reads well in a repository's browser:
`<!-- declared: commands -->` stands where a part is generated, links lead to files of the repository, and the words
after a block's language tell the tests how to run it.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import declared  # noqa: E402  (found through the path above)

# Of results/ the site holds what people read; run documents stay in the repository.
_READ = {".md", ".svg", ".png"}
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_FENCE = re.compile(r"^( *)(`{3,})([A-Za-z]+) +([^`\n]+)$", re.MULTILINE)
_DECLARED = re.compile(r"^<!-- declared: ([a-z-]+) -->$", re.MULTILINE)
# What a reader is told of a block that a test doesn't run.
_MARKS = {"gpu": "needs a GPU", "cluster": "needs a cluster", "hours": "takes long"}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the reports and pictures of results/ below `results/`, so that links among them stay as they are."""
    for path in sorted((ROOT / "results").rglob("*")):
        relative = path.relative_to(ROOT)
        if path.suffix in _READ and "local" not in relative.parts:
            files.append(File.generated(config, relative.as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """A page as it is built: generated parts, links into results/, blocks without their marks."""
    folder = posixpath.dirname(page.file.src_uri)
    if folder.startswith("results"):
        page.meta["search"] = {"exclude": True}  # their hundreds of headings would stand before every page
        return markdown
    markdown = _DECLARED.sub(lambda found: declared.part(found[1]), markdown)
    markdown = _LINK.sub(lambda found: f"{found[1]}{site_link(found[2], folder)}{found[3]}", markdown)
    return _FENCE.sub(_fence, markdown)


def site_link(target: str, folder: str) -> str:
    """A link of a page in docs/FOLDER as the site has it: `../../results/x.svg` lies one folder nearer there."""
    path, _, anchor = target.partition("#")
    whole = posixpath.normpath(posixpath.join("docs", folder, path))
    if "://" in target or not whole.startswith("results/"):
        return target
    return posixpath.relpath(whole, folder or ".") + (f"#{anchor}" if anchor else "")


def _fence(found: re.Match[str]) -> str:
    indent, fence, language, words = found.groups()
    said = [_MARKS[word] for word in words.split() if word in _MARKS]
    said += [word.removeprefix("file=") for word in words.split() if word.startswith("file=")]
    title = f' title="{", ".join(said)}"' if said else ""
    return f"{indent}{fence}{language}{title}"
