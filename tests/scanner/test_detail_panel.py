from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from scanner.bundle import Bundle
from scanner.detector import Detector
from scanner.preprocess import PreprocessSpec
from scanner.tui.detail import DetailPanel, worker
from scanner.tui.detail.picture import Mode
from scanner.tui.detail.pictures import Isolated
from scanner.tui.items import Item
from scanner.types import FileFacts, ImageRef

NO_FACTS = FileFacts()


class Here:
    """Runs what the workers would, in the thread that asks."""

    def __init__(self, spec: PreprocessSpec) -> None:
        self.decoded: list[str] = []

    def __call__(self, ref: ImageRef, function: Callable[..., Any], *args: Any) -> Any:
        self.decoded.append(ref.path.name)
        return function(ref, *args)

    def close(self) -> None:
        pass


class Shell(App[None]):
    def __init__(self, bundle: Bundle, mode: Mode = "blocks", **options: Any) -> None:
        super().__init__()
        self.detector = Detector(bundle, device="cpu")
        self.panel = DetailPanel(
            bundle, lambda: self.detector, mode=mode, **{"runner": Here, **options}
        )

    def compose(self) -> ComposeResult:
        yield self.panel

    def on_mount(self) -> None:
        self.panel.focus()

    @property
    def text(self) -> str:
        """What is on the screen."""
        strips = self.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)


def drive(
    app: Shell,
    steps: Callable[[Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
) -> None:
    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await steps(pilot)

    asyncio.run(go())


async def shows(app: Shell, pilot: Pilot[None], *wanted: str) -> None:
    """Wait until the screen shows every one of `wanted`."""
    for _ in range(400):
        await pilot.pause(0.02)
        if all(text in app.text for text in wanted):
            return
    raise AssertionError(f"{wanted} is not on the screen:\n{app.text}")


def item(path: Path, bundle: Bundle, facts: FileFacts = NO_FACTS, **changes: Any) -> Item:
    values = {
        "p_fake": 0.8, "verdict": "fake", "reason": None, "detail": "", "threshold": 0.5,
        "operating_point": "youden", "model": f"{bundle.name}@{bundle.digest}", **changes,
    }  # fmt: skip
    return Item(0, ImageRef(path), facts, **values)


def save(path: Path, size: tuple[int, int] = (64, 48), colour: str = "white") -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def test_the_panel_as_it_stands_at_80_by_24(tmp_path: Path, remaking_bundle, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(Path("photo.png"), (200, 100))
    facts = FileFacts(200, 100, "PNG", 1234, "ab" * 32, 1_700_000_000 * 10**9)
    shown = item(path, remaking_bundle, facts, review="fake", reviewer="ann", note="hands")
    facts_now = FileFacts(bytes=1234, sha256="ab" * 32)
    app = Shell(remaking_bundle, "none", runner=_answers(facts_now))

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(shown)
        await shows(app, pilot, "PNG, 200 x 100")
        lines = [
            line.rstrip() for line in app.text.replace(remaking_bundle.digest, "D").split("\n")
        ]
        right = [line[40:].rstrip() for line in lines]
        assert right[:16] == [
            " fake  confidence 80.00%",
            " P(fake) 80.00%",
            " 0 ━━━━━━━━━━━━━━━━━━━━━━━━━◆────── 1",
            "           1       2",
            " 1 best_f1 25.00%: fake",
            " 2 youden 50.00%: fake  in use",
            "",
            " review   fake by ann",
            " remark   hands",
            " file     photo.png",
            " picture  200 x 100, 0.0 MP, PNG",
            " bytes    1,234",
            " changed  2023-11-14 22:13:20 UTC",
            " model    tiny@D",
            " sha256   abababababababababababababa",
            "          bababababababababababababab",
        ]
        assert "original, all of it" in lines[-1]

    drive(app, steps)


def _answers(facts: FileFacts) -> type[Here]:
    class Known(Here):
        def __call__(self, ref: ImageRef, function: Callable[..., Any], *args: Any) -> Any:
            rgb = np.full((50, 100, 3), 255, np.uint8)
            known = FileFacts(200, 100, "PNG", facts.bytes, facts.sha256)
            return worker.Loaded(rgb, np.full((1, 32, 32, 3), 255, np.uint8), known, ())

    return Known


def test_a_picture_is_painted_in_its_shape_and_goes_where_there_is_room(
    tmp_path: Path, remaking_bundle
):
    app = Shell(remaking_bundle)
    shown = item(save(tmp_path / "a.png", (64, 64)), remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(shown)
        await shows(app, pilot, "▀▀▀", "original, all of it")
        blocks = [line.count("▀") for line in app.text.split("\n") if "▀" in line]
        assert abs(blocks[0] - 2 * len(blocks)) <= 1, "a square, of cells twice as high as wide"
        assert "confidence" in app.text.split("\n")[0], "beside the words"
        await pilot.resize_terminal(40, 30)
        await shows(app, pilot, "▀▀▀")
        assert "confidence" not in app.text.split("\n")[0], "above them"

    drive(app, steps)


def test_the_maps_follow_each_other_and_say_that_they_are_no_proof(tmp_path, remaking_bundle):
    app = Shell(remaking_bundle)
    shown = item(save(tmp_path / "a.png", (64, 64)), remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(shown)
        await shows(app, pilot, "original")
        await pilot.press("m")
        await shows(app, pilot, "reconstruction, no proof; error 0.0", "▀▀▀")
        await pilot.press("m")
        await shows(app, pilot, "error, no proof; error 0.0", "▀▀▀")
        await pilot.press("m")
        await shows(app, pilot, "attention, no proof", "orange to fake")
        await pilot.press("m")
        await shows(app, pilot, "original, all of it")

    drive(app, steps)


def test_without_a_decoder_the_reason_stands_where_the_map_would(tmp_path, tiny_bundle):
    app = Shell(tiny_bundle)
    shown = item(save(tmp_path / "a.png"), tiny_bundle, model="other@123")

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(shown)
        await shows(app, pilot, "original")
        assert "best_f1" not in app.text, "marks of this model say nothing of another's score"
        await pilot.press("m")
        await shows(
            app, pilot, "no reconstruction: this model", "bundle made with", "not of", "other@123"
        )

    drive(app, steps)


def test_a_file_without_a_score_shows_why_and_what_to_do_and_is_not_decoded(
    tmp_path, remaking_bundle
):
    app = Shell(remaking_bundle)
    shown = item(
        tmp_path / "a.jpg", remaking_bundle, p_fake=None, verdict=None, reason="truncated",
        detail="the file ends early\x1b[2J",
    )  # fmt: skip

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(shown)
        await shows(app, pilot, r"early\x1b[2J", "copy or download it again", "not scored")
        assert app.panel._pictures._previews.decoded == []
        await pilot.press("m", "z", "right")  # nothing to map or to zoom
        await shows(app, pilot, "not scored")

    drive(app, steps)


def test_a_file_that_has_vanished_since_the_scan_keeps_its_score(tmp_path, remaking_bundle):
    app = Shell(remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(item(tmp_path / "gone.png", remaking_bundle))
        await shows(app, pilot, "vanished:", "P(fake) 80.00%", "cannot be shown now")

    drive(app, steps)


def test_names_with_escapes_markup_and_bidirectional_marks_are_shown_harmless(
    tmp_path, remaking_bundle, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    app = Shell(remaking_bundle)
    path = save(Path() / "[red]\x1b[31m\u202egpj[b].png")
    words = "שלום [b]x[/b]"  # letters from right to left are no marks and stay

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(item(path, remaking_bundle, note=words, tags=("[link=x]",)))
        await shows(app, pilot, "original", "[red]", r"\x1b[31m\u202e", "[b]x[/b]", "[link=x]")
        assert "\x1b" not in app.text
        assert "\u202e" not in app.text

    drive(app, steps, (160, 40))


def test_zoom_shows_the_files_pixels_and_pans_and_another_picture_is_whole_again(
    tmp_path, remaking_bundle
):
    app = Shell(remaking_bundle)
    first = item(save(tmp_path / "a.png", (400, 300)), remaking_bundle)
    second = item(save(tmp_path / "b.png"), remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(first)
        await shows(app, pilot, "all of it")
        await pilot.press("z", "z", "z", "z")
        await shows(app, pilot, "original, 1:1: 39 x ", "400 x 300", "▀▀▀")
        before = app.text
        await pilot.press("left")
        for _ in range(100):
            await pilot.pause(0.02)
            if app.text != before and "at" in app.text:
                break
        assert app.text != before
        app.panel.show(second)
        await shows(app, pilot, "b.png", "all of it")

    drive(app, steps)


def test_a_picture_too_large_for_a_closer_look_stays_whole_and_says_so(
    tmp_path, remaking_bundle, monkeypatch
):
    monkeypatch.setattr(worker, "MAX_FULL_PIXELS", 1000)
    app = Shell(remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(item(save(tmp_path / "a.png", (400, 300)), remaking_bundle))
        await shows(app, pilot, "all of it")
        await pilot.press("z")
        await shows(app, pilot, "no closer", "▀▀▀")

    drive(app, steps)


def test_what_is_nearby_is_decoded_ahead_and_shown_at_once(tmp_path, remaking_bundle):
    app = Shell(remaking_bundle)
    items = [item(save(tmp_path / f"{n}.png"), remaking_bundle) for n in range(3)]

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(items[0], items[1:])
        runner = app.panel._pictures._previews
        for _ in range(200):
            await pilot.pause(0.02)
            if len(runner.decoded) == 3:
                break
        assert runner.decoded == ["0.png", "1.png", "2.png"]
        await pilot.pause(0.1)
        app.panel.show(items[1])
        await pilot.pause()
        assert "all of it" in app.text
        assert len(runner.decoded) == 3

    drive(app, steps)


def test_a_decoder_that_takes_its_time_holds_up_neither_keys_nor_the_next_picture(
    tmp_path, remaking_bundle
):
    go = threading.Event()

    class Slow(Here):
        def __call__(self, ref: ImageRef, function: Callable[..., Any], *args: Any) -> Any:
            if ref.path.name == "slow.png":
                go.wait(20)
            return super().__call__(ref, function, *args)

    app = Shell(remaking_bundle, runner=Slow)
    slow = item(save(tmp_path / "slow.png"), remaking_bundle)
    skipped = item(save(tmp_path / "skipped.png"), remaking_bundle)
    last = item(save(tmp_path / "last.png"), remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(slow)
        await shows(app, pilot, "decoding", "slow.png")
        app.panel.show(skipped)
        await shows(app, pilot, "skipped.png")
        app.panel.show(last)
        await pilot.press("m")
        assert app.panel.shown == "reconstruction"
        go.set()
        await shows(app, pilot, "last.png", "reconstruction, no proof")
        assert app.panel._pictures._previews.decoded == ["slow.png", "last.png"]

    drive(app, steps)


@pytest.mark.parametrize("mode", ["shades", "none", "graphics"])
def test_every_kind_of_terminal_shows_something(mode: Mode, tmp_path, remaking_bundle):
    app = Shell(remaking_bundle, mode)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(item(save(tmp_path / "a.png", colour="gray"), remaking_bundle))
        await shows(app, pilot, "all of it")
        if mode == "none":
            assert "PNG, 64 x 48 pixels" in app.text
        if mode == "shades":
            assert any(shade in app.text for shade in "█▓▒░")

    drive(app, steps)


def test_a_remark_that_is_typed_does_not_paint_the_picture_again(tmp_path, remaking_bundle):
    app = Shell(remaking_bundle)
    shown = item(save(tmp_path / "a.png"), remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(shown)
        await shows(app, pilot, "all of it")
        painted = app.panel._picture._widget.image
        app.panel.show(replace(shown, note="typed"))
        await shows(app, pilot, "typed")
        assert app.panel._picture._widget.image is painted

    drive(app, steps)


def test_nothing_chosen_is_said_and_a_provenance_section_can_be_set(tmp_path, remaking_bundle):
    from rich.text import Text

    app = Shell(remaking_bundle)
    shown = item(save(tmp_path / "a.png"), remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        await shows(app, pilot, "no picture is chosen")
        app.panel.show(shown)
        app.panel.set_provenance(Text("C2PA: signed"))
        await shows(app, pilot, "C2PA: signed", "P(fake)")
        app.panel.show(None)
        await shows(app, pilot, "no picture is chosen")
        assert "C2PA" not in app.text
        assert "P(fake)" not in app.text

    drive(app, steps, (80, 30))


def test_the_panel_decodes_in_another_process_from_inside_a_running_app(tmp_path, remaking_bundle):
    """Textual replaces sys.stderr by what is no file, which starting processes stumbled over."""
    app = Shell(remaking_bundle, runner=Isolated)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(item(save(tmp_path / "a.png"), remaking_bundle))
        await shows(app, pilot, "all of it", "▀▀▀")

    drive(app, steps)


@pytest.mark.parametrize("protocol", ["SixelImage", "TGPImage"])
def test_graphics_protocols_take_pictures_zoom_and_text_in_turn(
    protocol: str, tmp_path, remaking_bundle, monkeypatch
):
    from textual_image import widget

    monkeypatch.setattr(widget, "Image", getattr(widget, protocol))
    app = Shell(remaking_bundle, "graphics")
    first = item(save(tmp_path / "a.png", (900, 700)), remaking_bundle)

    async def steps(pilot: Pilot[None]) -> None:
        app.panel.show(first)
        await shows(app, pilot, "all of it")
        (shown,) = app.panel._picture.query(getattr(widget, protocol))
        for _ in range(100):  # the words may come a frame before the picture has its room
            if shown.region.area:
                break
            await pilot.pause(0.02)
        assert shown.region.area > 100
        await pilot.press("z")
        await shows(app, pilot, "original, 1:2: 780 x 700")
        app.panel.show(item(tmp_path / "gone.png", remaking_bundle))
        await shows(app, pilot, "vanished:")
        assert not shown.display
        app.panel.show(first)
        await shows(app, pilot, "all of it")
        assert shown.display

    drive(app, steps)
