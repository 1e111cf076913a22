from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from scanner.preprocess import PreprocessSpec
from scanner.tui.detail import worker
from scanner.tui.detail.errands import Errands
from scanner.tui.detail.exif import read_exif
from scanner.tui.detail.facts import REMEDY, facts_text, heat_in_words
from scanner.tui.detail.maps import Maps, MapsMade
from scanner.tui.detail.picture import mode_of_terminal
from scanner.tui.detail.pictures import Isolated, Recent
from scanner.tui.detail.score import score_text
from scanner.tui.detail.viewport import View, fitted
from scanner.tui.detail.worker import Crop, Loaded
from scanner.tui.items import Item
from scanner.types import Failed, FileFacts, ImageRef, Reason

SPEC = PreprocessSpec(size=32)
NO_FACTS = FileFacts()
SHOWN = {"p_fake": 0.8, "verdict": "fake", "reason": None, "detail": "", "threshold": 0.6}


def item(name: str = "a.png", facts: FileFacts = NO_FACTS, **changes: object) -> Item:
    values = {**SHOWN, "operating_point": "youden", "model": "tiny@0", **changes}
    return Item(0, ImageRef(Path(name)), facts, **values)  # type: ignore[arg-type]


def text_of(renderable: object, width: int = 60) -> str:
    console = Console(width=width, file=open(os.devnull, "w"), record=True)  # noqa: SIM115, PTH123
    console.print(renderable)
    return console.export_text()


# Geometry


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((100, 100), (40, 20), (40, 20)),  # a cell is twice as high as wide
        ((100, 100), (80, 20), (40, 20)),
        ((400, 100), (40, 20), (40, 5)),
        ((10_000, 10), (40, 20), (40, 1)),  # never nothing
    ],
)
def test_a_picture_keeps_its_shape_in_cells(size, box, expected):
    assert fitted(size, box, (10, 20)) == expected


def test_zooming_leaves_out_steps_that_show_no_less_than_all_of_it():
    view, size, room = View(), (1000, 500), (200, 300)
    seen = []
    for _ in range(8):
        view = view.zoomed(1, size, room)
        seen.append(view.ratio)
    assert seen == ["1:4", "1:2", "1:1", "2:1", "4:1", "4:1", "4:1", "4:1"]
    for _ in range(8):
        view = view.zoomed(-1, size, room)
    assert view == View()


def test_panning_ends_at_the_border():
    view = View(1, (0.5, 0.5))
    for _ in range(20):
        view = view.panned(0.25, -0.25, (0.4, 0.2))
    assert view.centre == pytest.approx((0.8, 0.1))
    assert view.panned(-0.25, 0, (0.4, 0.2)).centre == pytest.approx((0.7, 0.1))
    assert View(1).panned(1, 1, (1.0, 2.0)).centre == (0.5, 0.5)


# Words


def test_the_bar_marks_every_operating_point_and_names_the_one_in_use():
    text = text_of(score_text(item(), {"youden": 0.6, "best_f1": 0.3}, 64, (0.7, 0.9)), 70)
    bar, marks, first, second, band = text.splitlines()[1:6]
    assert bar.index("◆") == 2 + round(0.8 * 59)
    assert marks.index("1") == 2 + round(0.3 * 59)
    assert marks.index("2") == 2 + round(0.6 * 59)
    assert first == "1 best_f1 30.00%: unsure"
    assert second == "2 youden 60.00%: fake  in use"
    assert band == "70.00% to 90.00%: too often wrong for a verdict, as here"


def test_of_what_no_model_can_judge_the_reason_stands_in_place_of_the_score() -> None:
    odd = item(facts=FileFacts(notes=("truncated", "elongated")), p_fake=0.49, verdict="unsure")
    lines = text_of(score_text(odd, {"youden": 0.6}, 64, (0.3, 0.9)), 70).split("\n")
    assert [line.rstrip() for line in lines if line.strip()] == [
        "unsure  no score to go by", "so long that the model sees less than a quarter of it",
    ]  # fmt: skip


def test_no_less_than_certain_is_shown_as_certain() -> None:
    text = text_of(score_text(item(p_fake=0.999996), {}, 64), 70)
    assert text.startswith("fake  confidence 99.99%  P(fake) 99.99%")


@pytest.mark.parametrize("p_fake", [0.0, 1.0])
def test_the_bar_holds_at_its_ends(p_fake: float):
    bar = text_of(score_text(item(p_fake=p_fake), {}, 10)).splitlines()[2]
    assert bar.startswith("0 ")
    assert bar.endswith(" 1")
    assert len(bar) == 2 + 20 + 2


def test_texts_from_outside_can_neither_run_nor_reorder_anything():
    hostile = "a\x1b[31m[bold]\u202egpj.exe\n.png"
    shown = text_of(
        facts_text(
            item(hostile, note=hostile, tags=(hostile,), reviewer=hostile, review="fake"),
            exif=[("camera", hostile)],
        ),
        200,
    )
    assert shown.count(r"a\x1b[31m[bold]\u202egpj.exe\x0a.png") == 5
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_every_reason_has_a_remedy():
    assert set(REMEDY) == set(get_args(Reason))


def test_a_file_that_changed_since_the_scan_says_so():
    scanned = FileFacts(bytes=5, mtime_ns=1, sha256="a" * 64)
    same = FileFacts(bytes=5, mtime_ns=2, sha256="a" * 64)  # only touched
    other = FileFacts(bytes=5, mtime_ns=2, sha256="b" * 64)
    assert "has changed" not in text_of(facts_text(item(facts=scanned), now=same))
    assert "has changed" in text_of(facts_text(item(facts=scanned), now=other))


def test_a_time_that_no_calendar_knows_is_still_told():
    assert "since 1970" in text_of(facts_text(item(facts=FileFacts(mtime_ns=10**30))))


def test_the_map_is_told_in_words():
    heat = np.zeros((1, 30, 30), np.float32)
    assert heat_in_words(heat) == "no part moves the score by itself"
    heat[0, 2, 28], heat[0, 15, 15] = 1.25, -0.5
    assert heat_in_words(heat) == (
        "most towards fake: top right (+1.25); most towards real: centre (-0.50)"
    )


def test_without_colour_or_graphics_pictures_are_shades_or_words():
    assert mode_of_terminal({"TERM": "dumb"}) == "none"
    assert mode_of_terminal({"TERM": "xterm", "NO_COLOR": "1"}) in ("shades", "graphics")


# What runs in the worker


def test_a_preview_is_small_and_upright_and_has_the_squares_that_the_model_sees(tmp_path: Path):
    image = Image.new("RGB", (2000, 1000), "red")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110], exif[0x0131] = 6, "Canon\0", "EOS", "x\x1b[2J"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:31 10:00:00"
    image.save(tmp_path / "a.jpg", exif=exif)
    loaded = worker.load(ImageRef(tmp_path / "a.jpg"), SPEC)
    assert isinstance(loaded, Loaded)
    height, width = loaded.rgb.shape[:2]
    assert height == 2 * width
    assert height <= worker.PREVIEW_SIDE
    assert loaded.squares.shape == (1, 32, 32, 3)
    assert loaded.exif == (
        ("taken", "2024:01:31 10:00:00"),
        ("camera", "Canon EOS"),
        ("software", "x\x1b[2J"),
    )


def test_files_without_exif_or_not_there_have_none(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe1\xff\xffExif\0\0broken")
    assert read_exif(ImageRef(tmp_path / "a.jpg")) == ()
    assert read_exif(ImageRef(tmp_path / "gone.jpg")) == ()
    assert isinstance(worker.load(ImageRef(tmp_path / "gone.jpg"), SPEC), Failed)


def test_a_crop_is_of_the_files_own_pixels_and_stays_inside(tmp_path: Path):
    rgb = np.zeros((60, 90, 3), np.uint8)
    rgb[50, 80] = 255
    Image.fromarray(rgb).save(tmp_path / "a.png")
    ref = ImageRef(tmp_path / "a.png")
    found = worker.crop(ref, (1.0, 1.0), 20, 20, (20, 20))
    assert isinstance(found, Crop)
    assert (found.box, found.size) == ((70, 40, 20, 20), (90, 60))
    np.testing.assert_array_equal(found.rgb, rgb[40:, 70:])
    whole = worker.crop(ref, (0.5, 0.5), 500, 500, (45, 45))
    assert isinstance(whole, Crop)
    assert whole.box == (0, 0, 90, 60)
    assert whole.rgb.shape == (30, 45, 3)


def test_a_huge_picture_is_not_decoded_at_full_size(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(worker, "MAX_FULL_PIXELS", 1000)
    Image.new("RGB", (60, 60)).save(tmp_path / "huge.png")
    found = worker.crop(ImageRef(tmp_path / "huge.png"), (0.5, 0.5), 20, 20, (20, 20))
    assert isinstance(found, Failed)
    assert "only the reduced picture" in found.detail


# Processes and threads


def _die(ref: ImageRef) -> None:
    os._exit(11)


def _sleep(ref: ImageRef) -> None:
    time.sleep(60)


def _raise(ref: ImageRef) -> None:
    raise KeyError("odd")


def test_what_ends_or_holds_a_worker_is_that_files_failure_and_the_next_is_decoded(tmp_path: Path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    ref = ImageRef(tmp_path / "a.png")
    isolated = Isolated(SPEC, timeout_s=8)
    try:
        died = isolated(ref, _die)
        assert (died.reason, died.detail) == (
            "crashed",
            "its decoding ended the process: exit status 11",
        )
        assert isinstance(isolated(ref, worker.load, SPEC), Loaded)
        assert "odd" in isolated(ref, _raise).detail
        isolated._timeout_s = 1.0
        assert isolated(ref, _sleep).reason == "timeout"
        isolated._timeout_s = 20.0
        assert isinstance(isolated(ref, worker.load, SPEC), Loaded)
    finally:
        isolated.close()


def test_only_the_entries_used_last_are_kept():
    recent: Recent[int, str] = Recent(2)
    recent.put(1, "a")
    recent.put(2, "b")
    assert recent.get(1) == "a"
    recent.put(3, "c")
    assert (recent.get(1), recent.get(2), recent.get(3)) == ("a", None, "c")


def test_errands_that_wait_are_replaced_and_the_one_under_way_is_finished():
    done: list[str] = []
    started, go, last = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        started.set()
        go.wait(10)
        done.append("first")

    errands = Errands("test")
    errands.replace([first, lambda: done.append("stale")])
    assert started.wait(10)
    errands.replace([lambda: done.append("wanted"), last.set])
    go.set()
    assert last.wait(10)
    assert done == ["first", "wanted"]
    errands.close()
    errands.replace([lambda: done.append("late")])
    assert done == ["first", "wanted"]


def test_a_detector_that_cannot_be_had_is_a_problem_and_no_end():
    got: list[MapsMade] = []
    arrived = threading.Event()

    def broken() -> None:
        raise ValueError("no such device")

    def ready(ref: ImageRef, made: MapsMade) -> None:
        got.append(made)
        arrived.set()

    maps = Maps(broken, ready=ready)  # type: ignore[arg-type]
    maps.want(ImageRef(Path("a")), np.zeros((1, 32, 32, 3), np.uint8))
    assert arrived.wait(10)
    assert got[0].problem == "the maps cannot be made: no such device"
    maps.close()


def test_what_was_decided_without_a_band_was_decided_by_its_score() -> None:
    odd = item(facts=FileFacts(notes=("elongated",)), p_fake=0.9958, verdict="fake")
    text = text_of(score_text(odd, {"youden": 0.6}, 64), 70)
    assert "no score" not in text
    assert text.startswith("fake  confidence 99.58%")
