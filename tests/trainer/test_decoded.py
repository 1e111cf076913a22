"""A cache of decoded pictures gives what decoding gives, only sooner."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_runs import make_data, make_run

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed
from trainer.cli import command
from trainer.config import Augmentation
from trainer.data import Sample, load_samples
from trainer.decoded import DecodedPictures, Recipe, fit_recipes
from trainer.loader import Pictures
from trainer.tiers import CLEAN, HARD, WEB

SPEC = PreprocessSpec(size=32, views=2)
PLENTY = 10**9


def _picture(path: Path, seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    low = Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    low.resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs above and below the side that they are decoded smaller for, a turned one, PNGs."""
    root = tmp_path_factory.mktemp("pictures")
    for i, size in enumerate([(641, 519), (300, 200), (515, 770)]):
        _picture(root / "real" / f"{i}.jpg", i, size)
        _picture(root / "fake" / f"{i}.png", 10 + i, (90 + i, 70))
    turned = Image.open(root / "real" / "0.jpg")
    exif = turned.getexif()
    exif[274] = 6
    turned.save(root / "real" / "turned.jpg", exif=exif)
    return root


@pytest.fixture
def samples(data: Path) -> list[Sample]:
    return load_samples(data)


def _forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Sample, spec: PreprocessSpec) -> Any:
        raise AssertionError(f"{self.key} is decoded again")

    monkeypatch.setattr(Sample, "decode", refuse)


def _filled(root: Path, samples: list[Sample], *recipes: Recipe) -> DecodedPictures:
    cache = DecodedPictures(root, limit=PLENTY)
    assert cache.fill([(s, r) for s in samples for r in recipes]) == []
    assert not cache.full
    return cache


@pytest.mark.parametrize("augmentation", ["none", "flip", "neutral"])
def test_the_cache_changes_no_prepared_pixel(
    augmentation: Augmentation,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    plain = Pictures(samples, SPEC, augmentation=augmentation, seed=3)
    expected = []
    for epoch in range(8):  # some draws leave the picture as it came, box and all
        plain.epoch = epoch
        expected.append([plain[i][0].numpy() for i in range(len(samples))])
    train, _ = fit_recipes(SPEC, augmentation)
    cache = _filled(tmp_path, samples, train)
    _forbid_decoding(monkeypatch)
    cached = Pictures(samples, SPEC, augmentation=augmentation, seed=3, decoded=cache)
    for epoch in range(8):
        cached.epoch = epoch
        for i in range(len(samples)):
            np.testing.assert_array_equal(cached[i][0].numpy(), expected[epoch][i])


@pytest.mark.parametrize("tier", [CLEAN, WEB, HARD], ids=lambda t: t.name)
def test_the_cache_changes_no_tier(
    tier: Any, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def pictures(cache: DecodedPictures | None) -> Pictures:
        return Pictures(samples, SPEC, change=tier, decode_side=tier.longest, decoded=cache)

    expected = [pictures(None)[i][0].numpy() for i in range(len(samples))]
    cache = _filled(tmp_path, samples, pictures(None).recipe)
    _forbid_decoding(monkeypatch)
    for i, pixels in enumerate(expected):
        np.testing.assert_array_equal(pictures(cache)[i][0].numpy(), pixels)


def test_squares_come_out_of_a_whole_picture_too(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, squares = fit_recipes(SPEC, "neutral")
    expected = [squares.make(s) for s in samples]
    cache = _filled(tmp_path, samples, whole)
    _forbid_decoding(monkeypatch)
    for sample, kept in zip(samples, expected, strict=True):
        assert not isinstance(kept, Failed)
        np.testing.assert_array_equal(cache.read(sample, squares).rgb, kept.rgb)  # type: ignore[union-attr]


def test_a_later_run_decodes_nothing_not_even_a_moved_file(
    samples: list[Sample], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train, _ = fit_recipes(SPEC, "neutral")
    _filled(tmp_path, samples, train)
    for sample in samples:
        copy = tmp_path / "moved" / sample.key
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(sample.path.read_bytes())
    _forbid_decoding(monkeypatch)
    _filled(tmp_path, samples, train)
    _filled(tmp_path, load_samples(tmp_path / "moved"), train)


def test_a_file_that_changed_is_decoded_anew(tmp_path: Path):
    _picture(tmp_path / "real" / "a.png", 1, (60, 50))
    _picture(tmp_path / "fake" / "b.png", 2, (60, 50))
    _, squares = fit_recipes(SPEC, "none")
    _filled(tmp_path / "cache", load_samples(tmp_path), squares)
    _picture(tmp_path / "real" / "a.png", 3, (61, 50))
    samples = load_samples(tmp_path)
    cache = _filled(tmp_path / "cache", samples, squares)
    for sample in samples:
        made = squares.make(sample)
        np.testing.assert_array_equal(cache.read(sample, squares).rgb, made.rgb)  # type: ignore[union-attr]


def _flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        _flip_last_byte,
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes().replace(b"null", b"[1] ")),
    ],
    ids=["bit", "truncated", "empty", "box"],
)
def test_a_damaged_entry_is_noticed_and_made_anew(
    damage: Callable[[Path], Any], samples: list[Sample], tmp_path: Path
):
    train, _ = fit_recipes(SPEC, "neutral")
    cache = _filled(tmp_path, samples, train)
    before = {path: path.read_bytes() for path in cache.folder.rglob("*.pixels")}
    assert len(before) == len(samples)
    for path in before:
        damage(path)
    for sample in samples:
        np.testing.assert_array_equal(cache.read(sample, train).rgb, train.make(sample).rgb)  # type: ignore[union-attr]
    assert {path: path.read_bytes() for path in before} == before


def test_a_damaged_or_lost_index_is_made_anew(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, squares = fit_recipes(SPEC, "none")
    cache = _filled(tmp_path, samples, squares)
    entries = sum(p.stat().st_size for p in cache.folder.rglob("*.pixels"))
    _forbid_decoding(monkeypatch)
    for content in (b"no database " * 99, None):
        index = cache.folder / "index.sqlite"
        index.unlink() if content is None else index.write_bytes(content)
        _filled(tmp_path, samples, squares)
        with sqlite3.connect(index) as book:
            assert book.execute("SELECT bytes FROM total").fetchone()[0] == entries


def _size(cache: DecodedPictures) -> int:
    return sum(p.stat().st_size for p in cache.folder.rglob("*.pixels"))


def test_the_limit_holds_and_what_finds_no_room_is_decoded(samples: list[Sample], tmp_path: Path):
    _, squares = fit_recipes(SPEC, "none")
    one = 2 * 32 * 32 * 3 + 256
    cache = DecodedPictures(tmp_path, limit=3 * one)
    assert cache.fill([(s, squares) for s in samples]) == []
    assert cache.full
    assert _size(cache) == 3 * one
    for sample in samples:
        np.testing.assert_array_equal(cache.read(sample, squares).rgb, squares.make(sample).rgb)  # type: ignore[union-attr]


def test_what_no_run_asks_for_gives_way(samples: list[Sample], tmp_path: Path):
    _, squares = fit_recipes(SPEC, "none")
    one = 2 * 32 * 32 * 3 + 256
    DecodedPictures(tmp_path, limit=3 * one).fill([(s, squares) for s in samples[:3]])
    later = DecodedPictures(tmp_path, limit=3 * one)
    later.fill([(s, squares) for s in samples[2:5]])
    assert not later.full, "the first two went, the shared one stayed"
    assert _size(later) == 3 * one


def test_unreadable_pictures_are_told_and_not_kept(tmp_path: Path):
    _picture(tmp_path / "real" / "a.png", 1, (60, 50))
    _picture(tmp_path / "fake" / "b.png", 2, (60, 50))
    whole = (tmp_path / "real" / "a.png").read_bytes()
    (tmp_path / "real" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "real" / "empty.jpg").write_bytes(b"")
    train, _ = fit_recipes(SPEC, "neutral")
    cache = DecodedPictures(tmp_path / "cache", limit=PLENTY)
    failures = cache.fill([(s, train) for s in load_samples(tmp_path)])
    assert {str(f.ref.path): f.reason for f in failures} == {
        "real/cut.png": "truncated",
        "real/empty.jpg": "empty",
    }
    assert len(list(cache.folder.rglob("*.pixels"))) == 2


def _fill_in_process(root: Path, data: Path, count: Any) -> None:
    original = Sample.decode

    def counting(self: Sample, spec: PreprocessSpec) -> Any:
        with count.get_lock():
            count.value += 1
        return original(self, spec)

    Sample.decode = counting  # type: ignore[method-assign]
    train, _ = fit_recipes(SPEC, "neutral")
    DecodedPictures(root, limit=PLENTY).fill([(s, train) for s in load_samples(data)])


def test_two_processes_share_the_work(data: Path, samples: list[Sample], tmp_path: Path):
    context = multiprocessing.get_context("fork")
    count = context.Value("i", 0)
    pair = [context.Process(target=_fill_in_process, args=(tmp_path, data, count)) for _ in "ab"]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
        assert process.exitcode == 0
    assert count.value == len(samples), "none was decoded twice"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name another folder with --cache"):
        DecodedPictures(tmp_path / "file", limit=1)


def test_a_fit_and_an_evaluation_decode_each_picture_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = make_data(tmp_path / "data", {("real", "a"): 12, ("fake", "b"): 12})
    decoded: list[str] = []
    original = Sample.decode

    def counting(self: Sample, spec: PreprocessSpec) -> Any:
        decoded.append(self.key)
        return original(self, spec)

    monkeypatch.setattr(Sample, "decode", counting)
    cache = ["--cache", str(tmp_path / "cache")]
    fit = ["fit", "--data", str(data), "--preset", "conv-ae", "--size", "32", "--epochs", "2"]
    fit += ["--sample", "1", "--workers", "0", "--set", "augment=neutral", "--quiet", *cache]
    for out in ("one", "two"):
        result = CliRunner().invoke(command, [*fit, "--out", str(tmp_path / out)])
        assert result.exception is None, result.output
    assert len(decoded) == 24
    assert len(set(decoded)) == 24

    decoded.clear()
    run = make_run(tmp_path / "run", data, {"": "train"})
    evaluate = ["evaluate", str(run), "--data", str(data), "--split", "all", "--workers", "0"]
    for _ in range(2):
        result = CliRunner().invoke(command, [*evaluate, "--tier", "web", *cache])
        assert result.exception is None, result.output
    assert len(decoded) == 24, "for the larger side of the tier, once"


def test_a_study_decodes_each_picture_once_and_a_later_one_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = make_data(tmp_path / "data", {("real", "a"): 12, ("fake", "b"): 12})
    decoded: list[str] = []
    original = Sample.decode

    def counting(self: Sample, spec: PreprocessSpec) -> Any:
        decoded.append(self.key)
        return original(self, spec)

    monkeypatch.setattr(Sample, "decode", counting)
    monkeypatch.chdir(tmp_path)
    tune = ["tune", "--data", str(data), "--preset", "conv-ae", "--sample", "1", "--workers", "0"]
    tune += ["--set", "size=32", "--trials", "2", "--epochs", "2", "--quiet"]
    for name in ("one", "two"):
        more = ["--study", name, "--cache", "kept"]
        result = CliRunner().invoke(command, [*tune, *more, "--out", f"{name}.toml"])
        assert result.exception is None, result.output
    assert len(decoded) == 24
    assert len(set(decoded)) == 24
    assert not (tmp_path / "one-trials" / "decoded").exists()

    result = CliRunner().invoke(command, [*tune, "--study", "three", "--out", "three.toml"])
    assert result.exception is None, result.output
    assert len(decoded) == 48, "without --cache they are kept with the trials"
    assert (tmp_path / "three-trials" / "decoded").is_dir()


def test_a_large_picture_is_kept_smaller_and_no_squares_are_made_of_it(tmp_path: Path):
    """Squares of a smaller picture would not be those that decoding gives."""
    _picture(tmp_path / "real" / "a.png", 1, (1100, 700))
    _picture(tmp_path / "fake" / "b.png", 2, (500, 500))
    samples = load_samples(tmp_path)
    whole, squares = fit_recipes(SPEC, "neutral")
    cache = _filled(tmp_path / "cache", samples, whole)
    sides = {s.key: cache.read(s, whole).rgb.shape[:2] for s in samples}  # type: ignore[union-attr]
    assert sides == {"real/a.png": (512, 805), "fake/b.png": (500, 500)}
    for sample in samples:
        made = squares.make(sample)
        np.testing.assert_array_equal(cache.read(sample, squares).rgb, made.rgb)  # type: ignore[union-attr]
