"""The main screens as pictures, colours included: SVG, as Textual exports it.

With UPDATE_SCREENS=1 they are written anew, to be looked at. The comparison is our own:
pytest-textual-snapshot ties its users to one release of syrupy and to an old pytest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import Input
from tui_fakes import PIPELINE, result, triage, until

from scanner.bundle import EMBEDDED, Bundle, read_bundle
from scanner.journal import Journal
from scanner.preprocess import PreprocessSpec
from scanner.tui.detail import DetailPanel
from scanner.tui.detail.worker import Loaded
from scanner.tui.screens.triage import TriageScreen
from scanner.types import ImageRef
from scanner.verdict import OperatingPoint

SCREENS = Path(__file__).parent / "tui_screens"
POINT = OperatingPoint("youden", 0.6, (0.55, 0.65))
# Every verdict; scores and contents are the same each time.
FILES = [
    result(path, p_fake, content=number, size=size, point=POINT)
    for number, (path, p_fake, size) in enumerate([
        ("/pictures/2024/portraits/DSC_0412-final-retouched-for-the-magazine.jpeg", 0.99999, 9000),
        ("/pictures/2024/portraits/bee.png", 0.10, 100),
        ("/pictures/2024/portraits/cat.png", 0.61, 5000),
        ("/pictures/2024/portraits/dog.png", None, 50),
        ("/pictures/press/eel.png", 0.9712, 400_000),
        ("/pictures/press/fox.png", 0.58, 7000),
        ("/pictures/press/gnu.png", 0.30, 6000),
        ("/pictures/press/日本語-[bold].png", 0.85, 3_000_000),
    ])
]  # fmt: skip
Press = Callable[[Pilot[None], TriageScreen], Any]


class Flag:
    """In the place of the process that decodes: a picture that is the same each time."""

    def __init__(self, spec: PreprocessSpec) -> None:
        self._size = spec.size

    def __call__(self, ref: ImageRef, function: object, *args: object) -> Loaded:
        facts = next(each.facts for each in FILES if each.ref == ref)
        rgb = np.zeros((96, 128, 3), np.uint8)
        rgb[:48, :, 0], rgb[48:, :64, 1], rgb[48:, 64:] = 200, 150, 240
        squares = np.zeros((1, self._size, self._size, 3), np.uint8)
        return Loaded(rgb, squares, facts, (("camera", "ACME One"), ("software", "none")))

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Of the model that gave the scores, as far as the panel looks."""
    points = {"best_f1": 0.45, "youden": 0.6}
    found = read_bundle(EMBEDDED["fast"])
    model = {"name": PIPELINE.model_name, "digest": PIPELINE.model_digest}
    return replace(found, **model, thresholds=points, unsure=POINT.unsure)


async def at_rest(pilot: Pilot[None]) -> str:
    """The screen when no more comes: the panel waits for the cursor to rest, and for a thread."""
    before = ""
    for _ in range(20):
        await pilot.pause(0.3)
        svg = pilot.app.export_screenshot(title="imgscan")
        # Rich numbers its classes by the content.
        svg = re.sub(r"\bterminal-\d+-", "terminal-", svg)
        if svg == before:
            return svg
        before = svg
    raise AssertionError("the screen does not come to rest")


async def some_decided(pilot: Pilot[None], screen: TriageScreen, *, panel: bool = False) -> None:
    await pilot.press("f", "e", *"six fingers", "tab", *"hands", "enter", "space", "home")
    if panel:
        await pilot.press("i")


async def light(pilot: Pilot[None], screen: TriageScreen) -> None:
    await some_decided(pilot, screen)
    await pilot.press("D")


async def filtering(pilot: Pilot[None], screen: TriageScreen) -> None:
    await some_decided(pilot, screen)
    bar = screen.query_one("#filter", Input)
    bar.cursor_blink = False
    await pilot.press("slash", *"verdict:un")
    await until(pilot, lambda: len(screen.triage.listing) == 2 and bool(bar._suggestion))


async def bad_name(pilot: Pilot[None], screen: TriageScreen) -> None:
    await some_decided(pilot, screen)
    await pilot.press("w")
    box = pilot.app.screen.query_one("#answer", Input)
    box.cursor_blink = False
    await pilot.press(*".doc", "enter")


async def keys(pilot: Pilot[None], screen: TriageScreen, *pressed: str) -> None:
    await some_decided(pilot, screen)
    await pilot.press(*pressed)


async def help_(pilot: Pilot[None], screen: TriageScreen) -> None:
    await keys(pilot, screen, "question_mark")


async def folders(pilot: Pilot[None], screen: TriageScreen) -> None:
    await keys(pilot, screen, "g")


CASES: dict[str, tuple[tuple[int, int], Press]] = {
    "list-80x24": ((80, 24), some_decided),
    "list-with-panel-80x24": ((80, 24), partial(some_decided, panel=True)),
    "list-120x40": ((120, 40), some_decided),
    "list-120x40-light": ((120, 40), light),
    "list-120x40-no-colour": ((120, 40), some_decided),
    "list-250x70": ((250, 70), some_decided),
    "help-80x24": ((80, 24), help_),
    "filter-120x40": ((120, 40), filtering),
    "folders-120x40": ((120, 40), folders),
    "dialog-120x40": ((120, 40), bad_name),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", CASES)
async def test_the_main_screens_are_drawn_as_they_were(
    name: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the title line has the journal's path, as it was given
    if name.endswith("no-colour"):
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    journal = Path("case.sqlite")
    with Journal(journal) as opened:
        recorder = opened.record(PIPELINE, [Path("/pictures")], POINT)
        for each in FILES:
            recorder.add(each)
        recorder.finish()
    mode: Any = "shades" if name.endswith("no-colour") else "blocks"

    def panel(digest: str) -> DetailPanel:
        def no_detector() -> Any:
            raise AssertionError("no map is shown")

        return DetailPanel(bundle, no_detector, runner=Flag, mode=mode, id="panel")

    size, press = CASES[name]
    async with triage(journal, size=size, listed=len(FILES), panel=panel) as (pilot, screen):
        await press(pilot, screen)
        svg = await at_rest(pilot)
    kept = SCREENS / f"{name}.svg"
    if os.environ.get("UPDATE_SCREENS"):
        kept.write_text(svg, encoding="utf-8")
    seen = tmp_path / kept.name
    seen.write_text(svg, encoding="utf-8")
    assert svg == kept.read_text(encoding="utf-8"), f"{seen} is not as {kept} was"


def test_each_screen_that_is_kept_is_compared() -> None:
    assert {path.stem for path in SCREENS.glob("*.svg")} == set(CASES)
