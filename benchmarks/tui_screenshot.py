"""The screenshot of the README: the triage screen over the sample pictures.

python -m benchmarks.tui_screenshot [OUT.svg]       docs/tui.svg unless told
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

from scanner.detector import Detector
from scanner.limits import Limits
from scanner.options.walk import WalkOptions
from scanner.plan import OpenedScan, Request
from scanner.tui.app import TriageApp
from scanner.tui.detail import DetailPanel
from scanner.tui.screens.triage import TriageScreen

ROOT = Path(__file__).parents[1]
SIZE = (132, 34)


async def take(journal: Path) -> str:
    """The screen as SVG, after a few decisions."""
    os.chdir(ROOT)
    plan = OpenedScan(Request([Path("sample_images")], WalkOptions(), Limits(1)))
    app = TriageApp(
        journal,
        plan,
        reviewer="ann",
        panel=lambda digest: DetailPanel(
            plan.bundle, lambda: Detector(plan.bundle, "cpu"), id="panel", mode="blocks"
        ),
    )
    try:
        async with app.run_test(size=SIZE) as pilot:
            await pilot.pause()
            screen = app.screen
            assert isinstance(screen, TriageScreen)
            while screen.triage.listing.total < 12 or screen.running:
                await pilot.pause(0.1)
            await pilot.press("f", "f", "f", "u")
            await pilot.pause(4.0)  # the picture's decoding
            return app.export_screenshot(title="imgscan sample_images --tui")
    finally:
        app.leave()


def main() -> None:
    """Take it."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "tui.svg"
    with tempfile.TemporaryDirectory() as temporary:
        svg = asyncio.run(take(Path(temporary) / "case.sqlite"))
    for folder in (f"{temporary}/", f"{ROOT}/", str(ROOT)):
        # Where things lie on this machine is nobody's business; nor is what was as long as that
        # to be stretched to its length.
        mark = re.escape(folder)
        svg = re.sub(rf'textLength="[^"]*"([^>]*>[^<]*{mark})', r"\1", svg)
        svg = svg.replace(folder, "")
    out.write_text(svg, encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
