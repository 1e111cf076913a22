from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from scanner.bundle import EMBEDDED, Bundle, default_bundle_path, read_bundle
from scanner.bundle_writing import replace_folder
from scanner.errors import BundleError


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of a good bundle, to be spoilt."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message, "a refusal is one line"
    assert str(folder) in message, "a refusal names the file"
    return message


def test_a_good_bundle_is_read_back_whole(tiny_bundle: Bundle, folder: Path):
    bundle = read_bundle(folder)
    assert bundle.spec == tiny_bundle.spec
    assert dict(bundle.thresholds) == dict(tiny_bundle.thresholds)
    assert bundle.digest == tiny_bundle.digest, "the digest is of the content, not of the place"


def test_the_digest_changes_with_any_file(folder: Path):
    before = read_bundle(folder).digest
    card = folder / "MODEL_CARD.md"
    card.write_text("# Another\n")
    files = json.loads((folder / "bundle.json").read_text())["files"]
    files["MODEL_CARD.md"] = hashlib.sha256(card.read_bytes()).hexdigest()
    _edit(folder, files=files)
    assert read_bundle(folder).digest != before


@pytest.mark.parametrize("name", ["encoder.onnx", "classifier.onnx", "MODEL_CARD.md"])
def test_a_changed_file_is_named(folder: Path, name: str):
    with (folder / name).open("ab") as stream:
        stream.write(b"\0")
    assert name in _refusal(folder)


@pytest.mark.parametrize("name", ["bundle.json", "encoder.onnx", "classifier.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    message = _refusal(folder)
    assert name in message
    assert "missing" in message


def test_a_folder_that_is_not_there_names_the_remedy(tmp_path: Path):
    assert "export onnx" in _refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": 2}, "schema version"),
        ({"schema_version": "1"}, "schema version"),
        ({"labels": ["fake", "real"]}, "labels"),
        ({"thresholds": {"youden": 0.5}}, "best_f1"),
        ({"thresholds": {"youden": 1.5, "best_f1": 0.5}}, "0..1"),
        ({"thresholds": {"youden": True, "best_f1": 0.5}}, "finite number"),
        ({"thresholds": {"youden": 0.5, "best_f1": 0.5, "x\x1b[31m": 0.5}}, "name"),
        ({"thresholds": {"youden": 0.5, "best_f1": 0.5, "n" * 33: 0.5}}, "name"),
        ({"thresholds": {"youden": 0.5, "best_f1": 0.5, "": 0.5}}, "name"),
        ({"thresholds": {"youden": 10**400, "best_f1": 0.5}}, "too large"),
        ({"temperature": 10**400}, "too large"),
        ({"preprocess": {"size": 32, "mean": [10**400, 0, 0]}}, "too large"),
        ({"operating_point": "fpr_1pct"}, "operating_point"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"unsure": [0.7, 0.3]}, "rising"),
        ({"unsure": [0.3]}, "unsure"),
        ({"unsure": [0.3, 1.5]}, "0..1"),
        ({"unsure": 0.5}, "unsure"),
        ({"unsure": [0.3, True]}, "finite number"),
        ({"preprocess": {"size": 32, "magic": 1}}, "magic"),
        ({"preprocess": {"size": 10**6}}, "size"),
        ({"preprocess": {"size": 32, "std": [1, 0, 1]}}, "std"),
        ({"preprocess": []}, "preprocess"),
        ({"name": "x\x1b[31m"}, "name"),
        ({"metrics": 3}, "metrics"),
    ],
)
def test_a_wrong_field_is_named(folder: Path, changes: dict, said: str):
    _edit(folder, **changes)
    assert said in _refusal(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema_version": 1}', "[" * 100_000])
def test_what_is_no_bundle_json_is_refused(folder: Path, text: str):
    (folder / "bundle.json").write_text(text)
    _refusal(folder)


def test_nan_is_no_number(folder: Path):
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"temperature": 1', '"temperature": NaN'))
    assert "NaN" in _refusal(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/encoder.onnx", "weights.bin"])
def test_no_file_outside_the_closed_list_is_even_looked_at(folder: Path, name: str):
    files = json.loads((folder / "bundle.json").read_text())["files"]
    _edit(folder, files={**files, name: "0" * 64})
    assert "no part of a bundle" in _refusal(folder)


def test_a_link_in_a_bundle_is_refused(folder: Path, tmp_path: Path):
    real = tmp_path / "elsewhere.onnx"
    (folder / "encoder.onnx").rename(real)
    (folder / "encoder.onnx").symlink_to(real)
    assert "link" in _refusal(folder)


def test_external_data_is_refused_even_with_the_right_hash(folder: Path):
    onnx = pytest.importorskip("onnx")
    path = folder / "classifier.onnx"
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    path.write_bytes(model.SerializeToString())
    files = json.loads((folder / "bundle.json").read_text())["files"]
    files["classifier.onnx"] = hashlib.sha256(path.read_bytes()).hexdigest()
    _edit(folder, files=files)
    assert "external data" in _refusal(folder)


def test_a_graph_is_verified_again_when_it_is_used(folder: Path):
    bundle = read_bundle(folder)
    (folder / "encoder.onnx").write_bytes(b"changed since")
    with pytest.raises(BundleError, match="sha256"):
        bundle.graph("encoder.onnx")


def test_replacing_never_deletes_a_folder_that_is_no_bundle(tmp_path: Path):
    finished, photos = tmp_path / "new", tmp_path / "photos"
    finished.mkdir()
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(BundleError, match="no part of a bundle"):
        replace_folder(finished, photos)
    assert (photos / "holiday.jpg").read_bytes() == b"precious"


def test_replacing_never_deletes_a_file_that_lies_beside_a_bundle(folder: Path, tmp_path: Path):
    finished = Path(shutil.copytree(folder, tmp_path / "new"))
    (folder / "thesis.docx").write_bytes(b"precious")
    with pytest.raises(BundleError, match=r"holds thesis\.docx"):
        replace_folder(finished, folder)
    assert (folder / "thesis.docx").read_bytes() == b"precious"
    (folder / "thesis.docx").unlink()
    (folder / "bundle.json").unlink()
    with pytest.raises(BundleError, match="is no bundle"):
        replace_folder(finished, folder)


def test_replacing_goes_through_a_link(folder: Path, tmp_path: Path):
    finished = Path(shutil.copytree(folder, tmp_path / "new"))
    (finished / "MODEL_CARD.md").write_text("newer")
    link = tmp_path / "link"
    link.symlink_to("bundle")
    replace_folder(finished, link)
    assert link.is_symlink()
    assert (folder / "MODEL_CARD.md").read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "link"]


def test_replacing_refuses_a_link_that_leads_nowhere(tmp_path: Path):
    (tmp_path / "new").mkdir()
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(BundleError, match="leads nowhere"):
        replace_folder(tmp_path / "new", tmp_path / "link")
    assert not (tmp_path / "gone").exists()


def test_replacing_swaps_an_older_bundle(folder: Path, tmp_path: Path):
    finished = Path(shutil.copytree(folder, tmp_path / "new"))
    (finished / "MODEL_CARD.md").write_text("newer")
    replace_folder(finished, folder)
    assert (folder / "MODEL_CARD.md").read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"], "nothing is left behind"


def test_the_embedded_bundles_are_valid_and_small_enough_for_a_wheel():
    sizes = {
        name: sum(path.stat().st_size for path in read_bundle(folder).path.iterdir())
        for name, folder in EMBEDDED.items()
    }
    assert sizes["fast"] <= 25_000_000
    assert sizes["cascade"] <= 200_000
    assert sum(sizes.values()) <= 95_000_000, "PyPI takes 100 MB"
    assert [read_bundle(folder).name for folder in EMBEDDED.values()] == list(EMBEDDED)
    assert read_bundle(default_bundle_path()).name == "cascade"
