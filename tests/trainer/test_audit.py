"""A set that leaks is shouted at, a clean one is not, and no picture hides in two splits."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageFilter
from tiny_runs import make_data

from scanner.errors import UsageError
from trainer.audit import Audit, audit
from trainer.cli import command
from trainer.commands.audit import audit_text, twins
from trainer.config import load_config
from trainer.facts import PIXELS, SIZE, STORAGE, TRACES, file_facts, original_facts, pixel_facts
from trainer.near import near_duplicates, thumbnail
from trainer.probe import probe, telltales

Rng = np.random.Generator
Save = Callable[[Image.Image, Path, Rng, int], None]
COUNT = 40  # of a class


def scene(rng: Rng, width: int, height: int) -> Image.Image:
    """Soft coloured blobs under a little noise: no two are alike, and no label shows."""
    blobs = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    image = blobs.resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def build(folder: Path, save: Save, *, size: Callable[[Rng, int], tuple[int, int]]) -> Path:
    rng = np.random.default_rng(0)
    for label, name in enumerate(("real", "fake")):
        (folder / name).mkdir(parents=True)
        for i in range(COUNT):
            save(scene(rng, *size(rng, label)), folder / name / f"{i:03d}", rng, label)
    return folder


def any_size(rng: Rng, label: int) -> tuple[int, int]:
    return int(rng.integers(80, 160)), int(rng.integers(80, 160))


def any_jpeg(image: Image.Image, path: Path, rng: Rng, label: int) -> None:
    image.save(path.with_suffix(".jpg"), quality=int(rng.integers(60, 95)))


def run(data: Path, *options: str) -> Result:
    arguments = ["audit", "--data", str(data), "--preset", "conv-ae", "--loaded", "40", *options]
    return CliRunner().invoke(command, arguments)


def look(data: Path, preset: str = "conv-ae") -> Audit:
    config = load_config(preset, {"size": 64})
    return audit(data, config, loaded_per_class=40, workers=2)


def findings(found: Audit) -> dict[tuple[str, str], str]:
    return {(r.stage, r.what): r.probe.finding for r in found.rows if not r.content}


def test_fakes_of_one_size_and_photographs_of_another_are_shouted_at(tmp_path: Path) -> None:
    def size(rng: Rng, label: int) -> tuple[int, int]:
        return (128, 128) if label else (112, 156)

    found = look(build(tmp_path, any_jpeg, size=size))
    seen = findings(found)
    assert seen["files", "size and shape"] == "LEAK"
    assert seen["files", "compression, EXIF, text"] == "ok"
    assert seen["loaded", "all file facts"] == "ok"
    text = audit_text(found)
    assert "LEAK: 100.0% of the pictures" in text
    assert "128 x 128: 40 fakes, 0 reals" in text
    assert "112 x 156: 0 fakes, 40 reals" in text
    assert "Loading hides it" in text


def test_formats_and_exif_that_tell_the_classes_apart_are_shouted_at(tmp_path: Path) -> None:
    def save(image: Image.Image, path: Path, rng: Rng, label: int) -> None:
        exif = Image.Exif()
        exif[271], exif[272] = "Maker", "Camera"
        if label:
            image.save(path.with_suffix(".png"))
        else:
            image.save(path.with_suffix(".jpg"), quality=85, exif=exif)

    found = look(build(tmp_path, save, size=any_size))
    seen = findings(found)
    assert seen["files", "size and shape"] == "ok"
    assert seen["files", "format and bytes"] == seen["files", "compression, EXIF, text"] == "LEAK"
    text = audit_text(found)
    assert "PNG: 40 fakes, 0 reals" in text
    assert "EXIF block: 0 fakes, 40 reals" in text


def test_a_clean_set_is_not_shouted_at(tmp_path: Path) -> None:
    found = look(build(tmp_path, any_jpeg, size=any_size), preset="default")
    assert set(findings(found).values()) == {"ok"}
    assert {r.stage for r in found.rows} == {"files", "loaded", "augmented"}
    assert found.leaks == found.duplicates == ()
    assert "LEAK" not in audit_text(found)
    assert "No leak was found" in audit_text(found)


def test_sharpness_that_survives_loading_is_no_leak_but_has_to_be_beaten(tmp_path: Path) -> None:
    def save(image: Image.Image, path: Path, rng: Rng, label: int) -> None:
        rough = Image.effect_noise(image.size, 60).convert("RGB")
        Image.blend(image, rough, 0.5 if label else 0.1).save(path.with_suffix(".png"))

    found = look(build(tmp_path, save, size=lambda rng, label: (128, 128)))
    row = next(r for r in found.rows if r.stage == "loaded" and r.content)
    assert row.probe.auc is not None
    assert row.probe.auc > 0.95
    assert row not in found.leaks
    assert "to be beaten" in audit_text(found)
    # The bytes of a square depend on its detail: that is seen, and said to be left.
    assert "still there after loading" in audit_text(found)


def test_originals_leak_although_the_files_do_not(tmp_path: Path) -> None:
    build(tmp_path, any_jpeg, size=any_size)
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = ["width", "height", "format", "bytes"]
        writer.writerow(["file", "label", *(f"original_{n}" for n in names)])
        for path in sorted(tmp_path.rglob("*.jpg")):
            fake = path.parent.name == "fake"
            facts = (1024, 1024, "PNG", 900_000) if fake else (4480, 6272, "JPEG", 9_000_000)
            writer.writerow([path.relative_to(tmp_path).as_posix(), path.parent.name, *facts])
    found = look(tmp_path)
    seen = findings(found)
    assert seen["files", "all of these"] == "ok"
    assert seen["originals", "size and shape"] == "LEAK"
    text = audit_text(found)
    assert "original 1024 x 1024: 40 fakes, 0 reals" in text
    assert "original 4480 x 6272: 0 fakes, 40 reals" in text


def test_an_original_of_no_size_is_refused_by_its_line(tmp_path: Path) -> None:
    columns = "file,label,original_width,original_height,original_format,original_bytes"
    (tmp_path / "manifest.csv").write_text(f"{columns}\na.png,real,0,10,PNG,5\n")
    with pytest.raises(UsageError, match="line 2"):
        original_facts(tmp_path)
    (tmp_path / "manifest.csv").write_text("file,label\na.png,real\n")
    assert original_facts(tmp_path) == {}


def test_pictures_of_one_group_are_not_learnt_by_heart() -> None:
    """Each group has a number of its own and a label: known groups say nothing of new ones."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    own, labels = rng.normal(size=40), np.tile([0, 1], 20)
    features = own[groups][:, None] + rng.normal(0, 1e-3, (400, 1))
    names = [str(g) for g in groups]
    honest = probe(features, ["x"], labels[groups], names)
    leaky = probe(features, ["x"], labels[groups], [str(i) for i in range(400)])
    assert leaky.finding == "LEAK"
    assert honest.finding == "ok"


def test_too_few_groups_are_said_to_be_too_few() -> None:
    result = probe(np.ones((4, 1)), ["x"], np.array([0, 0, 1, 1]), ["a", "b", "c", "c"])
    assert (result.finding, result.auc) == ("too few", None)


def test_a_value_that_both_classes_have_gives_nothing_away() -> None:
    square, wide = ({**_size(w, 64)} for w in (64, 128))
    labels = np.array([0] * 10 + [1] * 10)
    assert telltales([square] * 20, labels) == []
    found = telltales([square] * 10 + [wide] * 10, labels)
    assert {(t.value, t.fakes, t.reals) for t in found if t.kind == "size"} == {
        ("128 x 64", 10, 0),
        ("64 x 64", 0, 10),
    }


def _size(width: int, height: int) -> dict[str, float]:
    return {"width": float(width), "height": float(height), "is_png": 1.0}


@pytest.fixture(scope="module")
def twinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits by folders; three pictures stand again elsewhere, changed a little."""
    folder = tmp_path_factory.mktemp("twinned")
    build(folder / "train", any_jpeg, size=any_size)
    rng = np.random.default_rng(1)
    for name in ("real", "fake"):
        (folder / "val" / name).mkdir(parents=True)
        for i in range(10):
            any_jpeg(scene(rng, *any_size(rng, 0)), folder / "val" / name / f"{i}", rng, 0)
    with Image.open(folder / "train/real/003.jpg") as image:
        image.resize((200, 150)).save(folder / "val/real/smaller.jpg", quality=40)
    with Image.open(folder / "train/fake/007.jpg") as image:
        image.filter(ImageFilter.GaussianBlur(1)).save(folder / "val/fake/blurred.webp", quality=50)
    with Image.open(folder / "train/real/011.jpg") as image:
        image.save(folder / "train/fake/mislabelled.png")
    return folder


def test_planted_twins_are_found_and_nothing_else(twinned: Path) -> None:
    found = look(twinned)
    pairs = {frozenset((d.first.key, d.second.key)) for d in found.duplicates}
    assert pairs == {
        frozenset(("train/real/003.jpg", "val/real/smaller.jpg")),
        frozenset(("train/fake/007.jpg", "val/fake/blurred.webp")),
        frozenset(("train/real/011.jpg", "train/fake/mislabelled.png")),
    }
    assert [d.second.key for d in found.duplicates if d.across_classes] == ["train/real/011.jpg"]
    assert twins(found) == (2, "LEAK")
    assert found.counts == {"train": (40, 41), "val": (11, 11), "holdout": (0, 0)}


def test_the_command_writes_what_it_found_and_fails_if_asked_to(
    twinned: Path, tmp_path: Path
) -> None:
    result = run(twinned, "--out", str(tmp_path / "out"), "--strict")
    assert result.exit_code == 1
    assert "2 pairs (2 validation or holdout pictures)   LEAK" in result.stdout
    assert "a label is wrong" in result.stdout
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert written["near_duplicates"]["outside_training"] == 2
    assert {p["finding"] for p in written["probes"]} <= {"ok", "weak leak", "LEAK"}
    with (tmp_path / "out" / "near-duplicates.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {r["second"] for r in rows} | {r["first"] for r in rows} >= {"val/real/smaller.jpg"}
    assert run(twinned).exit_code == 0


def test_a_file_that_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    build(tmp_path, any_jpeg, size=any_size)
    whole = (tmp_path / "real" / "000.jpg").read_bytes()
    (tmp_path / "real" / "000.jpg").write_bytes(whole[: len(whole) // 2])
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "skipped real/000.jpg: truncated" in result.stderr
    assert "1 pictures cannot be read" in result.stdout


def test_twins_within_a_split_and_class_are_nobodys_business() -> None:
    thumb = thumbnail(np.asarray(scene(np.random.default_rng(0), 64, 64)))
    thumbs = np.stack([thumb, thumb])
    assert near_duplicates(thumbs, np.array([0, 0])) == []
    assert len(near_duplicates(thumbs, np.array([0, 1]))) == 1


def test_plain_pictures_are_not_taken_for_each_other() -> None:
    """Dots on white have hashes of a few coefficients, and pixels that hardly differ."""
    thumbs = []
    for x in range(0, 28, 3):
        picture = np.full((128, 128, 3), 255, np.uint8)
        picture[60:72, 4 * x : 4 * x + 12] = 0
        thumbs.append(thumbnail(picture))
    assert near_duplicates(np.stack(thumbs), np.arange(len(thumbs)), max_bits=64) == []


def test_ten_thousand_hashes_are_compared_in_seconds() -> None:
    thumbs = np.random.default_rng(0).uniform(0, 255, (10_900, 32, 32)).astype(np.float32)
    started = time.monotonic()
    assert near_duplicates(thumbs, np.arange(10_900) % 4) == []
    assert time.monotonic() - started < 60


def test_the_facts_of_a_jpeg_are_those_it_was_saved_with() -> None:
    exif = Image.Exif()
    exif[271] = "Maker"
    facts = {}
    for quality in (50, 95):
        buffer = io.BytesIO()
        image = scene(np.random.default_rng(0), 128, 64)
        image.save(buffer, "JPEG", quality=quality, subsampling=2, exif=exif, dpi=(72, 72))
        length = buffer.tell()
        buffer.seek(0)
        facts[quality] = file_facts(buffer, length)
        assert set(facts[quality]) == {*SIZE, *STORAGE, *TRACES}
        assert facts[quality]["bytes_per_pixel"] == length / (128 * 64)
    fact = facts[95]
    assert (fact["width"], fact["height"], fact["aspect"]) == (128, 64, 2)
    assert (fact["is_jpeg"], fact["is_png"], fact["multiple_of_64"]) == (1, 0, 1)
    assert (fact["subsampling"], fact["exif_camera"], fact["dpi"]) == (22, 1, 72)
    assert fact["quantisation_luma"] < facts[50]["quantisation_luma"]


def test_sums_of_pixels_see_blocks_blur_and_borders() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (64, 64, 3), np.uint8)
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(2)))
    blocks = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    framed = sharp.copy()
    framed[[0, -1]], framed[:, [0, -1]] = 255, 255
    squares = {"sharp": sharp, "blurred": blurred, "blocks": blocks, "framed": framed}
    facts = {name: pixel_facts(square) for name, square in squares.items()}
    assert set(facts["sharp"]) == set(PIXELS)
    assert facts["blurred"]["detail"] < facts["sharp"]["detail"]
    assert facts["blurred"]["fine_detail"] < facts["sharp"]["fine_detail"]
    assert facts["blocks"]["blockiness"] > 3 * facts["sharp"]["blockiness"]
    assert facts["framed"]["flat_border"] == 0 < facts["sharp"]["flat_border"]


def test_a_split_that_a_fit_leaves_out_is_audited_too(tmp_path: Path):
    data = make_data(
        tmp_path, {("real", "a"): 24, ("fake", "b"): 24}, ("train", "train", "val", "mine")
    )
    found = audit(data, load_config("conv-ae"), loaded_per_class=10)
    assert found.counts["mine"] == (6, 6)


def test_names_of_files_cannot_write_to_the_terminal(tmp_path: Path):
    data = make_data(tmp_path / "data", {("real", "a"): 24, ("fake", "b"): 24})
    (data / "manifest.csv").unlink()
    (data / "fake" / "b" / "\x1b]0;gone\x07.png").write_bytes(b"no picture")
    twin = data / "fake" / "b" / "\x1b[31m\nred.png"
    twin.write_bytes((data / "real" / "a" / "00.png").read_bytes())
    done = run(data)
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert "\\x1b]0;gone\\x07.png" in done.output
    assert "\\x1b[31m\\x0ared.png" in done.output
