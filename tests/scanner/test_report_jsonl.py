from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.report import open_report
from scanner.report.jsonl import line
from scanner.report.rows import COLUMNS, row_of
from scanner.types import Failed, FileFacts, ImageRef
from scanner.verdict import OperatingPoint, judge

POINT = OperatingPoint("youden", 0.5)
FACTS = FileFacts(4, 3, "PNG", 99, "ab" * 32, 5, ("truncated", "extension_mismatch"))

# What a path can hold on the systems there are: any text, any bytes, half a UTF-16 pair.
texts = st.one_of(
    st.text(st.characters(exclude_characters="\0"), min_size=1),
    st.binary(min_size=1)
    .filter(lambda raw: 0 not in raw)
    .map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text(st.sampled_from('a\\"\n\x1b\u202e\udc80\ud800'), min_size=1),
)


def test_a_line_has_the_columns_of_the_csv_and_the_bytes_of_names_that_are_not_text(
    tmp_path: Path,
) -> None:
    with open_report(tmp_path / "out.jsonl", "tiny@0123") as report:
        report.write(judge(ImageRef(Path("a.png"), "b/c.png"), FACTS, 0.25, POINT))
        report.write(Failed(ImageRef(Path("b.png")), "truncated", "it ends", FileFacts(bytes=7)))
    scored, failed = map(json.loads, (tmp_path / "out.jsonl").read_text("ascii").splitlines())
    assert set(scored) == set(failed) == {*COLUMNS, "path_base64", "member_base64"}
    expected = {
        "path": "a.png",
        "path_base64": None,
        "member": "b/c.png",
        "verdict": "real",
        "confidence": 0.75,
        "p_fake": 0.25,
        "threshold": 0.5,
        "real_below": 0.5,
        "fake_from": 0.5,
        "width": 4,
        "bytes": 99,
        "notes": ["truncated", "extension_mismatch"],
        "error": None,
    }
    assert {name: scored[name] for name in expected} == expected
    assert failed["error"] == "truncated: it ends"
    assert failed["notes"] == []
    unknown = ("member", "confidence", "p_fake", "threshold", "operating_point", "sha256", "review")
    assert {failed[name] for name in unknown} == {None}


@given(texts, texts)
def test_every_name_comes_back_and_every_line_is_one_line_of_ascii(name: str, member: str) -> None:
    text = line(row_of(Failed(ImageRef(Path(name), member), "empty", member), "m@1"))
    assert text.isascii()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    read = json.loads(text)
    for field, value in (("path", str(Path(name))), ("member", member)):
        if read[f"{field}_base64"] is None:
            assert read[field] == value
        else:
            raw = base64.b64decode(read[f"{field}_base64"])
            try:
                assert os.fsdecode(raw) == value
            except AssertionError:  # a name of Windows: half a pair has no other bytes
                assert raw.decode("utf-8", "surrogatepass") == value
        read[field].encode("utf-8")  # no half pairs, which many readers refuse


def test_a_name_that_is_not_text_is_shown_and_carried(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    read = json.loads(line(row_of(Failed(ImageRef(Path(os.fsdecode(raw))), "empty", ""), "m@1")))
    assert read["path"].endswith("/caf\ufffd.png")
    assert base64.b64decode(read["path_base64"]) == raw


def test_a_score_is_written_in_full() -> None:
    score = 0.49999999999999994
    read = json.loads(line(row_of(judge(ImageRef(Path("a")), FACTS, score, POINT), "m@1")))
    assert read["p_fake"] == score < read["threshold"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.JSONL"])
def test_an_empty_scan_is_an_empty_file(tmp_path: Path, name: str) -> None:
    with open_report(tmp_path / name, "m@1"):
        pass
    assert (tmp_path / name).read_bytes() == b""
