from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scanner.bundle import Bundle
from scanner.cli import run
from scanner.detector import Detector
from scanner.errors import BundleError
from scanner.explain import Remade, explain, occlusion_map, remake
from scanner.explain.colours import error_picture, heat_picture
from scanner.explain.sheet import draw_sheet
from scanner.preprocess import PreprocessSpec
from scanner.types import FileFacts, ImageRef, Pixels

SIZE = 64


@dataclass
class Corners:
    """Fine contrast in the upper left corner speaks for fake, in the lower right for real."""

    bundle: object = field(
        default_factory=lambda: SimpleNamespace(
            name="corners", spec=PreprocessSpec(size=SIZE), temperature=0.5
        )
    )
    scored: int = 0

    def deciding(self, batch: Any) -> Any:
        return self

    def logits(self, batch: np.ndarray) -> np.ndarray:
        self.scored += len(batch)
        half = SIZE // 2
        fake, real = batch[..., :half, :half], batch[..., half:, half:]
        per_view = 10 * (fake.std((2, 3, 4)) - real.std((2, 3, 4)))
        return per_view.mean(1).astype(np.float64)

    def reconstruct(self, pixels: np.ndarray) -> np.ndarray | None:
        return None


def checkerboard(height: int = SIZE, width: int = SIZE) -> np.ndarray:
    board = (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)
    return np.repeat(board[..., None], 3, axis=2)


def pixels_of(rgb: np.ndarray) -> Pixels:
    return Pixels(ImageRef(Path("made-up.png")), rgb, FileFacts())


def test_the_heat_map_is_positive_where_fake_comes_from_negative_where_real_does_and_else_zero():
    heat = occlusion_map(checkerboard()[None], Corners())
    assert heat is not None
    assert heat.shape == (1, SIZE, SIZE)
    assert heat.dtype == np.float32
    quarter, half = SIZE // 4, SIZE // 2
    fake, real = heat[0, :quarter, :quarter], heat[0, -quarter:, -quarter:]
    assert fake.min() > 0.05
    assert real.max() < -0.05
    np.testing.assert_allclose(fake.mean(), -real.mean(), rtol=1e-4)
    # A patch is two steps wide: beyond one step from a corner's border nothing is moved.
    np.testing.assert_allclose(heat[0, : half - 8, half + 8 :], 0, atol=1e-6)


def test_a_patch_that_covers_all_the_contrast_takes_its_whole_share_of_the_logit():
    """The one bright spot is gone with its patch, and the map holds what the logit fell by."""
    square = np.zeros((1, SIZE, SIZE, 3), np.uint8)

    class Spot(Corners):
        def logits(self, batch: np.ndarray) -> np.ndarray:
            return np.where(batch[:, 0, 0, 20, 44] > 0.9, 3.0, 1.0)

    square[0, 20, 44] = 255
    heat = occlusion_map(square, Spot())
    assert heat is not None
    assert heat[0, 20, 44] == pytest.approx((3.0 - 1.0) / 0.5)  # over the temperature
    assert heat[0, 60, 4] == 0
    assert np.unravel_index(heat[0].argmax(), heat[0].shape) == pytest.approx((20, 44), abs=8)


def test_a_picture_of_one_colour_has_a_flat_map():
    heat = occlusion_map(np.full((1, SIZE, SIZE, 3), 90, np.uint8), Corners())
    assert heat is not None
    np.testing.assert_allclose(heat, 0, atol=1e-4)


def test_views_share_the_score_and_each_has_a_map():
    one = occlusion_map(checkerboard()[None], Corners())
    both = occlusion_map(np.stack([checkerboard(), np.zeros_like(checkerboard())]), Corners())
    assert one is not None
    assert both is not None
    np.testing.assert_allclose(both[0], one[0] / 2, atol=1e-6)
    np.testing.assert_allclose(both[1], 0, atol=1e-6)


def test_a_cancelled_map_stops_at_the_next_batch():
    scorer = Corners()
    asked = iter([False, True])
    assert occlusion_map(checkerboard()[None], scorer, cancelled=lambda: next(asked)) is None
    assert scorer.scored < 20
    assert explain(pixels_of(checkerboard()), Corners(), cancelled=lambda: True) is None


def test_without_a_decoder_the_rest_is_there_and_the_reason_too():
    found = explain(pixels_of(checkerboard(80, 100)), Corners())
    assert found is not None
    assert found.remade is None
    assert "no decoder" in found.missing
    assert found.squares.shape == (1, SIZE, SIZE, 3)
    assert found.p_fake == pytest.approx(1 / (1 + np.exp(0)), abs=0.2)


def test_a_decoder_that_does_not_fit_is_a_reason_and_no_end():
    class Misfit(Corners):
        def reconstruct(self, pixels: np.ndarray) -> np.ndarray | None:
            raise BundleError("decoder.onnx: takes pixels")

    assert remake(checkerboard()[None], Misfit()) == "decoder.onnx: takes pixels"


def test_the_error_map_is_where_picture_and_reconstruction_differ(remaking_bundle: Bundle):
    """The decoder knows means over 8 x 8 pixels; the picture is one of those, but for a corner."""
    square = np.full((1, 32, 32, 3), 100, np.uint8)
    detector = Detector(remaking_bundle, device="cpu")
    same = remake(square, detector)
    assert isinstance(same, Remade)
    assert same.rgb.shape == (1, 4, 4, 3)
    assert same.mean_error < 0.003

    class Wrong(Corners):
        bundle = remaking_bundle

        def reconstruct(self, pixels: np.ndarray) -> np.ndarray:
            remade = np.full((1, 3, 32, 32), 100 / 255, np.float32)
            remade[..., :8, :8] += 0.2
            return remade

    wrong = remake(square, Wrong())
    assert isinstance(wrong, Remade)
    assert wrong.error.shape == (1, 32, 32)
    assert wrong.error[0, 2, 2] == pytest.approx(0.2, abs=1e-3)
    assert wrong.error[0, 20, 20] == pytest.approx(0, abs=1e-3)
    assert wrong.mean_error == pytest.approx(0.2 / 16, abs=1e-3)


def test_colours_follow_the_sign_of_the_heat_and_the_size_of_the_error():
    square = np.full((1, 16, 16, 3), 128, np.uint8)
    heat = np.kron(np.array([[[1.0, -1.0], [0.0, 0.5]]]), np.ones((8, 8))).astype(np.float32)
    top, bottom = heat_picture(square, heat)[0, [2, 13]][:, [2, 13]].astype(int)
    assert top[0][0] > top[0][2]  # more red than blue: orange
    assert top[1][2] > top[1][0]  # blue
    assert bottom[0][0] == bottom[0][1] == bottom[0][2]  # grey
    bright = error_picture(np.array([0.0, 0.1, 0.2, 0.9], np.float32)).astype(int).sum(-1)
    assert list(bright) == sorted(bright)


def test_the_sheet_has_a_part_for_each_map(
    remaking_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    # Pillow holds texts to it, too, and it is what the last decode() of this process left.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**8)
    pixels = pixels_of(checkerboard())
    without, found = explain(pixels, Corners()), explain(pixels, Detector(remaking_bundle, "cpu"))
    assert without is not None
    assert found is not None
    whole = draw_sheet("a.png", found, "P(fake) 0.5")
    assert whole.width > draw_sheet("a.png", without, "P(fake) 0.5").width
    assert draw_sheet("\x1b[31m" + "long" * 200, found, "").size == whole.size


def test_explain_writes_a_sheet_and_says_the_score(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Image.fromarray(checkerboard()).save(tmp_path / "a.png")
    args = ["explain", str(tmp_path / "a.png"), "--model", str(tiny_bundle.path)]
    assert run([*args, "--out", str(tmp_path / "sheet.png"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("P(fake) 0.")
    assert out.endswith(f"drawn in {tmp_path / 'sheet.png'}\n")
    assert "no reconstruction: this model has no decoder; --model fast has one" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 900


def test_explain_refuses_in_one_line(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    picture = tmp_path / "a.png"
    Image.fromarray(checkerboard()).save(picture)
    before = picture.read_bytes()
    for file, out, status, said in (
        (picture, picture, 3, "is the picture itself"),
        (picture, tmp_path / "sheet.gif", 3, "ends in .png"),
        (picture, tmp_path / "nowhere" / "sheet.png", 3, "cannot be written"),
        (tmp_path / "gone.png", tmp_path / "sheet.png", 2, "(vanished)"),
    ):
        args = ["explain", str(file), "--out", str(out), "--model", str(tiny_bundle.path)]
        assert run([*args, "--device", "cpu"]) == status
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert picture.read_bytes() == before


def test_a_picture_that_may_not_be_read_is_no_wrong_usage(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    picture = tmp_path / "locked.png"
    Image.fromarray(checkerboard()).save(picture)
    opened = os.open

    def refusing(path: Any, *args: Any, **others: Any) -> int:
        if Path(path) == picture:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *args, **others)

    # As for anyone but root, whom no mode keeps out.
    monkeypatch.setattr(os, "open", refusing)
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) != picture)
    args = ["--model", str(tiny_bundle.path), "--device", "cpu"]
    assert run(["explain", str(picture), "--out", str(tmp_path / "sheet.png"), *args]) == 2
    assert "Permission denied (permission)" in capsys.readouterr().err
    monkeypatch.setattr(os, "open", opened)  # a scan's workers are other processes
    assert run([str(picture), *args, "--no-journal", "--exit-zero"]) == 0


def test_a_folder_called_explain_is_scanned_by_its_path(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "explain").mkdir()
    Image.fromarray(checkerboard()).save(tmp_path / "explain" / "a.png")
    monkeypatch.chdir(tmp_path)
    args = ["--model", str(tiny_bundle.path), "--device", "cpu", "--exit-zero"]
    assert run(["./explain", *args]) == 0
