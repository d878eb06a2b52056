"""The pictures of docs/pictures, made anew: dashboard and report of the committed runs, in a real Chromium.

    python docs/screens.py [FOLDER]

FOLDER is docs/pictures where none is given. It needs playwright, Pillow and a Chromium (Debian: apt install chromium).
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from PIL import Image
from playwright.sync_api import sync_playwright

from opbench.analyse.claims.answers import evaluate
from opbench.documents import read, save
from opbench.engine.fleet.node_types import type_name
from opbench.report.dashboard.site import write_site
from opbench.report.markdown import PAGE, write
from opbench.schema import Run

ROOT = Path(__file__).parent.parent
RUN = ROOT / "results" / "xeon-2core" / "default" / "run.json"
FLEET_RUN = ROOT / "results" / "xeon-2core" / "sampling" / "run.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
# A4 upright between the margins, at 96 dots an inch.
PAPER = {"viewport": {"width": 703, "height": 1032}}

# name of the picture: (page, what follows its #, how it is looked at)
SCREENS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dashboard": ("dashboard", "overview", {**DESKTOP, "color_scheme": "light"}),
    "dashboard-tasks": ("dashboard", "compare", {**DESKTOP, "color_scheme": "light"}),
    "dashboard-machines": ("fleet", "overview?machine=*", {**DESKTOP, "color_scheme": "light"}),
    "dashboard-devices": ("fleet", "devices", {**DESKTOP, "color_scheme": "light"}),
    "dashboard-dark": ("dashboard", "shapes", {**DESKTOP, "color_scheme": "dark"}),
    "dashboard-phone": ("dashboard", "overview", {**PHONE, "color_scheme": "light"}),
    "dashboard-phone-chart": ("dashboard", "compare", {**PHONE, "color_scheme": "dark"}),
    "dashboard-print": ("dashboard", "overview", {**PAPER, "media": "print"}),
    "report": ("report", "", {**DESKTOP, "color_scheme": "light"}),
    "report-dark": ("report", "latency-against-the-baseline", {**DESKTOP, "color_scheme": "dark"}),
    "report-phone": ("report", "", {**PHONE, "color_scheme": "light"}),
    "report-print": ("report", "", {**PAPER, "media": "print"}),
}


def pages(folder: Path) -> dict[str, Path]:
    """The dashboard of all committed runs and the report of the default one, written into `folder`."""
    site = write_site(ROOT / "results", folder / "site", evaluate).page
    run = read(RUN, Run)
    write(run, folder / "report")
    return {"dashboard": site, "fleet": example(folder), "report": folder / "report" / PAGE}


def example(folder: Path) -> Path:
    """A dashboard of a run over two node types: the Xeon as it was measured, and one that is made up, as it says."""
    run = read(FLEET_RUN, Run)
    made_up = replace(run.environment, cpu="A made-up CPU", cores=8, threads=8)
    records = tuple(
        replace(
            record,
            latencies=tuple(
                replace(
                    one,
                    samples_seconds=tuple(
                        tuple(sample * (0.5 if record.case.implementation == "torch" else 0.4) for sample in samples)
                        for samples in one.samples_seconds
                    ),
                )
                for one in record.latencies
            ),
        )
        for record in run.records
    )
    yardsticks = tuple(replace(one, samples=tuple(2 * sample for sample in one.samples)) for one in run.yardsticks)
    save(run, folder / "fleet" / type_name(run.environment) / "run.json")
    other = replace(run, environment=made_up, records=records, yardsticks=yardsticks)
    save(other, folder / "fleet" / type_name(made_up) / "run.json")
    shutil.copytree(ROOT / "results" / "devices", folder / "fleet" / "devices")
    return write_site(folder / "fleet", folder / "fleet-site").page


def picture(shot: bytes) -> bytes:
    """A screen as WebP: a fifth of its PNG, and its letters stay sharp."""
    out = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert("RGB").save(out, "WEBP", quality=44, method=6)
    return out.getvalue()


def main(into: Path) -> None:
    """Takes every picture of `SCREENS`."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser: one of {', '.join(BROWSERS)} is needed")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        found = pages(Path(folder))
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for name, (page, hash_, looked_at) in SCREENS.items():
            settings = dict(looked_at)
            media = settings.pop("media", None)
            tab = chromium.new_context(**settings).new_page()
            if media:
                tab.emulate_media(media=media)
            tab.goto(f"{found[page].as_uri()}{'#' if hash_ else ''}{hash_}")
            if page != "report":
                tab.wait_for_selector("main[data-view]")
            target = into / f"{name}.webp"
            target.write_bytes(picture(tab.screenshot()))
            print(f"{target}: {target.stat().st_size:,} bytes")
            tab.close()
        chromium.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "pictures")
