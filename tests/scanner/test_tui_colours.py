"""Whether all that is written stands out from what it is written on, by the contrast of WCAG 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from test_tui_states import BAND, judged_with_unsure
from textual.color import Color
from textual.filter import DimFilter
from tui_fakes import PIPELINE, MadeUpPlan, triage, until

from scanner.bundle import EMBEDDED, read_bundle
from scanner.tui.app import TriageApp
from scanner.tui.detail import DetailPanel

# For text, and for signs: the bars, marks and lines of the score.
TEXT, SIGNS = 4.5, 3.0
_SIGNS = "█●▶◆━"


def contrast(colour: Color, background: Color) -> float:
    """The ratio of WCAG 2, 1 to 21."""
    low, high = sorted(luminance(each) for each in (colour, background))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: Color) -> float:
    """Relative, 0 to 1."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def written(app: TriageApp) -> Iterator[tuple[str, float]]:
    """All that is on the screen, and how it stands out; the dimmed list behind a question not."""
    screen = app.screen
    dialog = screen.query(".dialog")
    region = dialog.first().region if dialog else screen.region
    for y, strip in enumerate(screen._compositor.render_strips()):
        if region.y <= y < region.bottom:
            part = strip.crop(region.x, region.right)
            for text, style, _ in part.apply_filter(DimFilter(), Color(0, 0, 0)):
                if text.strip() and style is not None and style.color and style.bgcolor:
                    pair = Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
                    yield text.strip(), contrast(*pair)


def stands_out(app: TriageApp) -> set[str]:
    """What was seen; asserts that it can be read."""
    seen = set()
    for text, ratio in written(app):
        if any(each.isalnum() for each in text):
            assert ratio >= TEXT, (text, ratio)
            seen.add(text)
        elif set(text) & set(_SIGNS):
            assert ratio >= SIGNS, (text, ratio)
        seen |= set(text) & set(_SIGNS)
    return seen


@pytest.mark.asyncio
@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
async def test_all_that_is_written_stands_out_from_what_it_is_written_on(tmp_path, theme) -> None:
    bundle = replace(
        read_bundle(EMBEDDED["fast"]),
        name=PIPELINE.model_name,
        digest=PIPELINE.model_digest,
        unsure=BAND.unsure,
    )

    def panel(digest: str) -> DetailPanel:
        return DetailPanel(bundle, lambda: 1 / 0, mode="none", id="panel")  # type: ignore[arg-type, return-value]

    given = judged_with_unsure()
    plan = MadeUpPlan(given, point=BAND)
    async with triage(tmp_path / "j.sqlite", plan, size=(140, 30), panel=panel) as (pilot, screen):
        app = pilot.app
        assert isinstance(app, TriageApp)
        app.theme = theme
        await pilot.press("f", "r", "u", "s", "space", "space", "home")
        seen: set[str] = set()
        for _ in given:  # each is once under the cursor, and in the panel
            await pilot.pause(0.2)
            seen |= stands_out(app)
            await pilot.press("down")
        assert seen >= {"fake", "real", "unsure", "failed", "skip", "truncated"}
        bars = {text.split()[-1] for text in seen if text.startswith("█")}
        assert bars >= {"99.00%", "61.00%", "58.00%", "98.00%"}  # fake, unsure twice, real
        assert seen >= {"█", "●", "▶", "━", "◆"}
        assert any("as here" in text for text in seen)

        await pilot.press("slash", *"verd")
        await until(pilot, lambda: bool(screen.query_one("#filter")._suggestion))  # type: ignore[attr-defined]
        await pilot.pause(0.3)
        assert any(text == "ct:" for text in stands_out(app))
        await pilot.press(*"ict:x", "enter")
        await pilot.pause(0.3)
        assert any("one of fake, real" in text for text in stands_out(app))
        await pilot.press("escape", "escape")
        for key in ("g", "e", "question_mark", "M", "L", "w", "X"):
            await pilot.press(key)
            await pilot.pause(0.2)
            assert stands_out(app), key
            await pilot.press("escape")
