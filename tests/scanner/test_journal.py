"""What the journal remembers, what it trusts, and what it does when its file is no good."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from fakes import HALF, FakeBundle

from scanner.journal import (
    Journal,
    JournalContents,
    JournalError,
    JournalMemory,
    NoSession,
    Pipeline,
    cells,
    open_session,
    pipeline_of,
    schema,
)
from scanner.journal import memory as memory_module
from scanner.journal.held import Held
from scanner.journal.paths import join, split
from scanner.limits import DecodeLimits
from scanner.types import Failed, FileFacts, ImageRef, Reason, Scored
from scanner.verdict import judge

PIPELINE = Pipeline("fake", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
SHA = "ab" * 32
LONG_AGO_NS = 1_600_000_000_123_456_789


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def old_file(path: Path, content: bytes = b"picture", mtime_ns: int = LONG_AGO_NS) -> ImageRef:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return ImageRef(path)


def facts_of(ref: ImageRef, **more: object) -> FileFacts:
    info = ref.path.stat()
    facts = FileFacts(40, 32, "PNG", info.st_size, SHA, info.st_mtime_ns)
    return replace(facts, **more)


def scored(ref: ImageRef, p_fake: float = 0.25, **more: object) -> Scored:
    return Scored(ref, p_fake, facts_of(ref, **more))


# What comes back


def test_a_score_comes_back_exactly_with_all_its_facts(journal, tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    kept = scored(ref, 0.1 + 0.2, notes=("truncated", "extension_mismatch"))
    journal.memory(PIPELINE).keep([kept])
    assert journal.memory(PIPELINE).recall([ref]) == [kept]


def test_results_outlive_the_journal_being_closed(tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    with Journal(tmp_path / "j.sqlite") as first:
        first.memory(PIPELINE).keep([scored(ref)])
    with Journal(tmp_path / "j.sqlite") as second:
        assert second.memory(PIPELINE).recall([ref]) == [scored(ref)]


def test_recall_opens_no_file(journal, tmp_path, monkeypatch) -> None:
    refs = [old_file(tmp_path / f"{n}.png") for n in range(3)]
    journal.memory(PIPELINE).keep([scored(ref) for ref in refs])
    memory = journal.memory(PIPELINE)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    assert memory.recall(refs) == [scored(ref) for ref in refs]
    assert memory.known == 3


def test_many_files_of_many_folders_come_back_in_the_order_asked(journal, tmp_path) -> None:
    refs = [old_file(tmp_path / f"{n % 7}" / f"{n}.png") for n in range(1200)]
    kept = [scored(ref, n / 1200) for n, ref in enumerate(refs)]
    journal.memory(PIPELINE).keep(kept[::2])
    expected = [result if n % 2 == 0 else None for n, result in enumerate(kept)]
    assert journal.memory(PIPELINE).recall(refs) == expected
    assert journal.memory(PIPELINE).recall([refs[0], refs[0]]) == [kept[0], kept[0]]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_names_that_are_not_text_are_told_apart_byte_for_byte(journal, tmp_path) -> None:
    names = [
        b"caf\xe9.png",
        "café.png".encode(),
        "cafe\u0301.png".encode(),
        b"a\nb.png",
        b"A",
        b"a",
    ]
    refs = [old_file(tmp_path / os.fsdecode(b"d\xff") / os.fsdecode(name)) for name in names]
    kept = [scored(ref, n / 10) for n, ref in enumerate(refs)]
    journal.memory(PIPELINE).keep(kept)
    assert journal.memory(PIPELINE).recall(refs) == kept


def test_every_spelling_of_a_path_is_the_same_file(journal, tmp_path, monkeypatch) -> None:
    ref = old_file(tmp_path / "real" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    journal.memory(PIPELINE).keep([scored(ref)])
    monkeypatch.chdir(tmp_path / "real")
    for path in (Path("a.png"), Path("../real/a.png"), tmp_path / "link" / "a.png"):
        assert journal.memory(PIPELINE).recall([ImageRef(path)]) == [scored(ImageRef(path))]


def test_members_of_an_archive_have_their_own_results(journal, tmp_path) -> None:
    archive = old_file(tmp_path / "a.zip", b"the archive's bytes").path
    refs = [ImageRef(archive, name) for name in ("x.png", "d/x.png", "", "\udcff\ud800.png")]
    kept = [scored(ref, n / 10, bytes=n, sha256=f"{n:064x}") for n, ref in enumerate(refs)]
    journal.memory(PIPELINE).keep(kept)
    assert journal.memory(PIPELINE).recall([*refs, ImageRef(archive)]) == [*kept, None]
    os.utime(archive, ns=(1, 1))
    assert journal.memory(PIPELINE).recall(refs) == [None] * 4


def test_keys_and_refs_are_each_others_inverse(tmp_path) -> None:
    for member in (None, "", "a/b.png", "!/"):
        ref = ImageRef(tmp_path / "a b.zip", member)
        folder, name = split(ref)
        assert join(os.fsencode(folder), name) == ref


# What is trusted


@pytest.mark.parametrize("change", ["size", "mtime", "gone", "folder"])
def test_a_changed_file_is_not_known(journal, tmp_path, change) -> None:
    ref = old_file(tmp_path / "a.png", b"12345678")
    journal.memory(PIPELINE).keep([scored(ref)])
    match change:
        case "size":
            old_file(ref.path, b"123456789")
        case "mtime":
            os.utime(ref.path, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
        case "gone":
            ref.path.unlink()
        case "folder":
            ref.path.unlink()
            ref.path.mkdir()
    assert journal.memory(PIPELINE).recall([ref]) == [None]


@pytest.mark.parametrize("part", ["model_digest", "preprocess_digest", "decoder_digest"])
def test_results_of_another_model_preprocessing_or_decoder_are_not_known(
    journal, tmp_path, part
) -> None:
    ref = old_file(tmp_path / "a.png")
    journal.memory(PIPELINE).keep([scored(ref)])
    other = replace(PIPELINE, **{part: "cccccccccccc"})
    assert journal.memory(other).recall([ref]) == [None]
    journal.memory(other).keep([scored(ref, 0.75)])
    assert journal.memory(other).recall([ref]) == [scored(ref, 0.75)]
    assert journal.memory(PIPELINE).recall([ref]) == [scored(ref)]


def test_decoders_are_part_of_the_pipeline(monkeypatch) -> None:
    before = pipeline_of(FakeBundle())
    assert pipeline_of(FakeBundle(), DecodeLimits()) == before
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    assert pipeline_of(FakeBundle()).decoder_digest != before.decoder_digest


def test_a_changed_limit_makes_unknown_only_what_hangs_on_it(journal, tmp_path) -> None:
    small, large = (old_file(tmp_path / name) for name in ("small.png", "large.png"))
    loose, strict = (
        pipeline_of(FakeBundle(), DecodeLimits(max_pixels=limit)) for limit in (9_999, 2_000)
    )
    kept = [scored(small), scored(large, sha256="cd" * 32, height=100)]
    journal.memory(loose).keep(kept)
    assert journal.memory(loose).recall([small, large]) == kept
    assert journal.memory(strict).recall([small, large]) == [kept[0], None]
    assert journal.memory(strict).contents.find("cd" * 32, "PNG") is None
    refused = Failed(large, "too_large", "limit of 2,000", kept[1].facts)
    journal.memory(strict).keep([refused])
    assert journal.memory(strict).recall([small, large]) == [kept[0], refused]
    assert journal.memory(strict).contents.find("cd" * 32, "PNG").reason == "too_large"
    # Also where it would be refused as well: what is told of it names the limit.
    stricter = pipeline_of(FakeBundle(), DecodeLimits(max_pixels=1_999))
    for other in (loose, stricter):
        assert journal.memory(other).recall([small, large]) == [kept[0], None]
        assert journal.memory(other).contents.find("cd" * 32, "PNG") is None


@pytest.mark.parametrize("reason", ["unreadable", "truncated", None])
def test_what_more_memory_might_have_spared_is_known_only_where_there_is_no_more(
    journal, tmp_path, reason
) -> None:
    ref = old_file(tmp_path / "a.png")
    kept = (
        scored(ref, notes=("truncated",))
        if reason is None
        else Failed(ref, reason, "the decoder gave up", facts_of(ref))
    )
    journal.memory(replace(PIPELINE, memory_mb=512)).keep([kept])
    for memory_mb, known in ((512, kept), (511, kept), (513, None), (None, None)):
        memory = journal.memory(replace(PIPELINE, memory_mb=memory_mb))
        assert memory.recall([ref]) == [known]
        assert (memory.contents.find(SHA, "PNG") is None) == (known is None)
    journal.memory(PIPELINE).keep([kept])
    assert journal.memory(replace(PIPELINE, memory_mb=16)).recall([ref]) == [kept]
    complete = scored(ref)
    journal.memory(replace(PIPELINE, memory_mb=16)).keep([complete])
    assert journal.memory(PIPELINE).recall([ref]) == [complete]


def test_a_file_changed_while_or_just_before_it_is_read_is_not_trusted_by_its_time(
    journal, tmp_path
) -> None:
    """The change after the reading can leave the very size and time that were read."""
    now = time.time_ns()
    ref = old_file(tmp_path / "a.png", b"before", now)
    memory = journal.memory(PIPELINE)
    memory.keep([scored(ref)])
    old_file(ref.path, b"after!", now)
    assert memory.recall([ref]) == journal.memory(PIPELINE).recall([ref]) == [None]
    # The content, by its hash, is still known.
    assert memory.contents.find(SHA, "PNG").p_fake == 0.25


def test_a_recent_file_is_trusted_once_it_was_read_long_enough_after_its_change(
    journal, tmp_path, monkeypatch
) -> None:
    ref = old_file(tmp_path / "a.png", b"1", time.time_ns())
    journal.memory(PIPELINE).keep([scored(ref)])
    later = time.time_ns() + 5_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    second = journal.memory(PIPELINE)
    assert second.recall([ref]) == [None]
    second.keep([scored(ref)])
    assert journal.memory(PIPELINE).recall([ref]) == [scored(ref)]


@pytest.mark.parametrize("reason", get_args(Reason))
def test_lasting_failures_are_replayed_and_transient_ones_are_not(
    journal, tmp_path, reason
) -> None:
    ref = old_file(tmp_path / "a.png")
    width = 10**8 if reason == "too_large" else 40
    failed = Failed(ref, reason, "what happened", facts_of(ref, width=width))
    journal.memory(PIPELINE).keep([failed])
    transient = reason in {"permission", "vanished", "changed", "timeout", "crashed"}
    assert journal.memory(PIPELINE).recall([ref]) == [None if transient else failed]


def test_a_transient_failure_does_not_cost_an_earlier_score(journal, tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    journal.memory(PIPELINE).keep([scored(ref)])
    journal.memory(PIPELINE).keep([Failed(ref, "permission", "refused", facts_of(ref))])
    assert journal.memory(PIPELINE).recall([ref]) == [scored(ref)]


def test_a_file_too_large_to_be_read_is_replayed_without_a_hash(journal, tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    old_file(ref.path, b"\0" * 2000)
    pipeline = replace(PIPELINE, decoder_digest="small", limits=DecodeLimits(max_bytes=1000))
    failed = Failed(ref, "too_large", "too large", facts_of(ref, sha256=None, format=None))
    journal.memory(pipeline).keep([failed])
    assert journal.memory(pipeline).recall([ref]) == [failed]


def test_what_the_disk_or_the_memory_did_not_give_is_tried_again(journal, tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    before = scored(ref)
    journal.memory(PIPELINE).keep([before])
    no_memory = Failed(ref, "too_large", "there is not enough memory", facts_of(ref))
    unread = Failed(ref, "unreadable", "Input/output error", facts_of(ref, sha256=None))
    journal.memory(PIPELINE).keep([no_memory, unread])
    assert journal.memory(PIPELINE).recall([ref]) == [before]


def test_a_result_without_size_or_time_is_never_recalled(journal, tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    for gap in ({"bytes": None}, {"mtime_ns": None}):
        journal.memory(PIPELINE).keep([scored(ref, **gap)])
        assert journal.memory(PIPELINE).recall([ref]) == [None]


def test_renewing_ignores_what_is_known_and_replaces_it(journal, tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    journal.memory(PIPELINE).keep([scored(ref, 0.25)])
    renewing = journal.memory(PIPELINE, renew=True)
    assert renewing.recall([ref]) == [None]
    assert renewing.contents is None
    renewing.keep([scored(ref, 0.5)])
    assert journal.memory(PIPELINE).recall([ref]) == [scored(ref, 0.5)]


# Known by content


def test_content_is_known_wherever_it_lies(journal, tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    memory = journal.memory(PIPELINE)
    memory.keep([scored(ref, notes=("truncated", "extension_mismatch"))])
    found = memory.contents.find(SHA, "PNG")
    assert (found.p_fake, found.reason) == (0.25, None)
    # Neither the time nor the notes of the other file's name.
    size = ref.path.stat().st_size
    assert found.facts == FileFacts(40, 32, "PNG", size, SHA, None, ("truncated",))
    assert memory.contents.find("cd" * 32, "PNG") is None
    other = replace(PIPELINE, model_digest="cccccccccccc")
    assert journal.memory(other).contents.find(SHA, "PNG") is None


@pytest.mark.parametrize("reason", get_args(Reason))
def test_only_failures_that_the_bytes_alone_decide_are_known_by_content(
    journal, tmp_path, reason
) -> None:
    ref = old_file(tmp_path / "a.png")
    memory = journal.memory(PIPELINE)
    width = 10**8 if reason == "too_large" else 40
    memory.keep([Failed(ref, reason, "why", facts_of(ref, width=width))])
    found = memory.contents.find(SHA, "PNG")
    if reason in cells.OF_CONTENT:
        assert (found.p_fake, found.reason, found.detail) == (None, reason, "why")
    else:
        assert found is None


def test_content_is_known_only_as_the_format_that_it_was_read_as(journal, tmp_path) -> None:
    refs = [old_file(tmp_path / name) for name in ("a.nef", "b.tif")]
    memory = journal.memory(PIPELINE)
    memory.keep([scored(refs[0], 0.25, format="NEF")])
    assert memory.contents.find(SHA, "TIFF") is None
    memory.keep([scored(refs[1], 0.75, format="TIFF")])
    assert memory.contents.find(SHA, "NEF").p_fake == 0.25
    assert memory.contents.find(SHA, "TIFF").p_fake == 0.75
    # Where only the decoder can tell the format, the name has no part in it.
    assert memory.contents.find(SHA, None).p_fake == 0.25


def _find_in_child(contents: JournalContents, queue: multiprocessing.Queue) -> None:
    queue.put(contents.find(SHA, "PNG"))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_worker_processes_find_contents_however_they_were_started(
    journal, tmp_path, method
) -> None:
    memory = journal.memory(PIPELINE)
    memory.keep([scored(old_file(tmp_path / "a.png"))])
    contents = memory.contents
    here = contents.find(SHA, "PNG")  # a fork would inherit the connection that this opened
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_find_in_child, args=(contents, queue))
    child.start()
    assert queue.get(timeout=60) == here
    child.join(60)
    assert here is not None
    assert pickle.loads(pickle.dumps(contents)).find(SHA, "PNG") == here


def test_a_journal_that_is_gone_or_no_journal_has_no_contents(tmp_path) -> None:
    path = tmp_path / "j.sqlite"
    contents = JournalContents(path, 1, Held.of(PIPELINE))
    assert contents.find(SHA, "PNG") is None
    assert not path.exists()
    path.write_bytes(b"not a database" * 100)
    assert contents.find(SHA, "PNG") is None
    path.unlink()
    with Journal(path) as journal:
        memory = journal.memory(PIPELINE)
        memory.keep([scored(old_file(tmp_path / "a.png"))])
        assert contents.find(SHA, "PNG") is not None  # the same lookup, once there is something


def test_contents_are_found_while_another_connection_writes(journal, tmp_path) -> None:
    memory = journal.memory(PIPELINE)
    memory.keep([scored(old_file(tmp_path / "a.png"))])
    with journal._database.transaction() as connection:
        connection.execute("DELETE FROM results")
        assert memory.contents.find(SHA, "PNG") is not None


# Two at once, and killed


_WRITER = """
import os, sys
from pathlib import Path
from scanner.journal import Journal, Pipeline
from scanner.types import FileFacts, ImageRef, Scored
path, folder = map(Path, sys.argv[1:3])
start, end, mtime_ns = map(int, sys.argv[3:6])
pipeline = Pipeline("fake", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
print("ready", flush=True)
sys.stdin.readline()
with Journal(path) as journal:
    memory = journal.memory(pipeline)
    for n in range(start, end):
        ref = ImageRef(folder / f"{n % 5}" / f"{n}.png")
        facts = FileFacts(bytes=7, sha256=f"{n:064x}", mtime_ns=mtime_ns)
        memory.keep([Scored(ref, n / 1000, facts)])
        print(n, flush=True)
"""


def _writer(path: Path, folder: Path, start: int, end: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, *map(str, (path, folder, start, end, LONG_AGO_NS))],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_write_one_new_journal_and_nothing_is_lost(tmp_path) -> None:
    path = tmp_path / "j.sqlite"
    refs = [old_file(tmp_path / f"{n % 5}" / f"{n}.png") for n in range(400)]
    # The second half of the one is the first half of the other.
    writers = [_writer(path, tmp_path, 0, 250), _writer(path, tmp_path, 150, 400)]
    for writer in writers:
        _go(writer)
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    with Journal(path) as journal:
        known = journal.memory(PIPELINE).recall(refs)
    assert [result.p_fake for result in known] == [n / 1000 for n in range(400)]


_OPENER = """
import sys
from pathlib import Path
from scanner.journal import Journal
print("ready", flush=True)
for name in sys.stdin:
    Journal(Path(name.strip())).close()
    print("opened", flush=True)
"""


def test_processes_that_open_the_same_new_journal_at_once_all_can(tmp_path) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENER],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdout.readline() == "ready\n"
    for n in range(40):
        for opener in openers:
            opener.stdin.write(f"{tmp_path / str(n)}\n")
            opener.stdin.flush()
        answers = [opener.stdout.readline() for opener in openers]
        if answers != ["opened\n"] * 4:
            break
    assert [opener.communicate(timeout=60)[1] for opener in openers] == [""] * 4
    assert n == 39


def test_what_was_kept_before_a_kill_is_known_after_it(tmp_path) -> None:
    path = tmp_path / "j.sqlite"
    refs = [old_file(tmp_path / f"{n % 5}" / f"{n}.png") for n in range(300)]
    writer = _writer(path, tmp_path, 0, 100_000)
    _go(writer)
    assert writer.stdout is not None
    said = [int(writer.stdout.readline()) for _ in range(150)]
    writer.kill()
    said += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    writer.communicate()
    with Journal(path) as journal:
        known = journal.memory(PIPELINE).recall(refs)
    assert all(known[n] is not None for n in said if n < 300)


def test_a_batch_is_kept_whole_or_not_at_all(journal, tmp_path) -> None:
    refs = [old_file(tmp_path / "new" / f"{n}.png") for n in range(3)]
    memory = journal.memory(PIPELINE)
    broken = Scored(refs[2], 0.5, FileFacts(sha256="no hash"))
    with pytest.raises(ValueError, match="hexadecimal"):
        memory.keep([scored(refs[0]), scored(refs[1]), broken])
    assert memory.recall(refs) == [None] * 3
    memory.keep([scored(ref) for ref in refs])  # the folder's number is not one rolled back
    assert journal.memory(PIPELINE).recall(refs) == [scored(ref) for ref in refs]


def test_threads_share_a_memory(journal, tmp_path) -> None:
    refs = [old_file(tmp_path / f"{n % 9}" / f"{n}.png") for n in range(200)]
    memory = journal.memory(PIPELINE)
    failures: list[BaseException] = []

    def work(part: list[ImageRef]) -> None:
        try:
            for ref in part:
                memory.keep([scored(ref)])
                assert memory.recall([ref]) == [scored(ref)]
        except BaseException as error:  # noqa: BLE001 - shown below, in the thread that can fail
            failures.append(error)

    threads = [threading.Thread(target=work, args=(refs[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# A file that is no good


def test_a_photograph_or_a_damaged_journal_is_refused_and_left_as_it_is(tmp_path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff" + b"picture" * 1000)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="damaged, or no journal; move it away"):
        Journal(path)
    assert path.read_bytes() == before


def test_damage_inside_is_told_when_it_is_met(tmp_path) -> None:
    path = tmp_path / "j.sqlite"
    refs = [old_file(tmp_path / "d" / f"{n:04}.png") for n in range(500)]
    with Journal(path) as journal:
        journal.memory(PIPELINE).keep([scored(ref) for ref in refs])
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (path.stat().st_size - 8192))
    with pytest.raises(JournalError, match="damaged"), Journal(path) as journal:
        journal.memory(PIPELINE).recall(refs)


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path) -> None:
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE t (x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="belongs to another program"):
        Journal(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs.sqlite"]


def test_a_newer_schema_is_refused_and_names_both_versions(tmp_path) -> None:
    path = tmp_path / "j.sqlite"
    Journal(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    newer.close()
    expected = rf"schema {schema.VERSION + 1}, this one knows {schema.VERSION}\); use that version"
    with pytest.raises(JournalError, match=expected):
        Journal(path)


def test_a_full_disk_is_told_with_the_remedy_and_what_was_kept_stays(journal, tmp_path) -> None:
    refs = [old_file(tmp_path / f"{n}.png") for n in range(2000)]
    memory = journal.memory(PIPELINE)
    memory.keep([scored(refs[0])])
    # SQLite's own bound on the file gives the error that a full disk does.
    journal._database.rows("PRAGMA max_page_count = 40")
    with pytest.raises(JournalError, match="the disk is full; free some space"):
        memory.keep([scored(ref) for ref in refs])
    assert memory.recall(refs[:2]) == [scored(refs[0]), None]


def test_a_place_that_cannot_be_written_is_told_with_the_remedy(tmp_path) -> None:
    for path in (tmp_path / "missing" / "j.sqlite", tmp_path):
        with pytest.raises(JournalError, match="cannot be written; give a --journal in a folder"):
            Journal(path)


def test_a_journal_that_stays_locked_is_told_after_a_while(tmp_path) -> None:
    path = tmp_path / "j.sqlite"
    locked = pytest.raises(JournalError, match="another program keeps it locked")
    with Journal(path) as journal, journal._database.transaction(), locked:
        Journal(path, busy_seconds=0.05)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SQLITE_IOERR_LOCK", "no locking that SQLite can use"),
        ("SQLITE_IOERR_SHMMAP", "no locking that SQLite can use"),
        ("SQLITE_PROTOCOL", "no locking that SQLite can use"),
        ("SQLITE_READONLY_DBMOVED", "cannot be written"),
        ("SQLITE_IOERR_WRITE", "the disk gave an error"),
        ("SQLITE_CORRUPT_INDEX", "is damaged"),
        ("SQLITE_TOOBIG", "string or blob too big"),
    ],
)
def test_sqlites_errors_become_one_line_with_a_remedy(tmp_path, name, said) -> None:
    from scanner.journal.database import explained

    error = sqlite3.OperationalError("string or blob too big")
    error.sqlite_errorname = name
    with pytest.raises(JournalError) as caught, explained(tmp_path / "j.sqlite"):
        raise error
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'j.sqlite'}: ")
    assert said in text
    assert "--journal" in text
    assert "\n" not in text


@pytest.fixture
def default_place(tmp_path, monkeypatch) -> Path:
    place = tmp_path / "data" / "imgscan" / "journal.sqlite"
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *names, **options: place.parent)
    return place


def test_a_scan_goes_on_without_a_default_journal_that_fails(tmp_path, default_place) -> None:
    refs = [old_file(tmp_path / f"{n}.png") for n in range(2000)]
    told: list[str] = []
    with open_session(None, PIPELINE, [tmp_path], HALF, tell=told.append) as session:
        assert default_place.exists()
        session.keep([scored(refs[0])])
        assert session.recall(refs[:1]) == [scored(refs[0])]
        assert isinstance(session.contents, JournalContents)
        session.record(judge(refs[0], facts_of(refs[0]), 0.75, HALF))
        assert not told
        # SQLite's own bound on the file gives the error that a full disk does.
        session._journal._database.rows("PRAGMA max_page_count = 40")
        session.keep([scored(ref) for ref in refs])
        session.keep([scored(ref) for ref in refs])
        assert session.recall(refs[:2]) == [None, None]
        assert session.contents is None
        assert session.review_of(SHA) is None
        session.record(judge(refs[0], facts_of(refs[0]), 0.75, HALF))
        session.finish()
        assert session.known == 1
    assert len(told) == 1
    assert "the disk is full" in told[0]
    assert told[0].endswith("; the scan goes on without the journal")


def test_a_scan_does_not_go_on_without_a_journal_that_was_named(tmp_path) -> None:
    refs = [old_file(tmp_path / f"{n}.png") for n in range(2000)]
    told: list[str] = []
    full = pytest.raises(JournalError, match="the disk is full")
    named = tmp_path / "case.sqlite"
    with full, open_session(named, PIPELINE, [tmp_path], HALF, tell=told.append) as session:
        session._journal._database.rows("PRAGMA max_page_count = 40")
        session.keep([scored(ref) for ref in refs])
    named.unlink()
    named.mkdir()
    with pytest.raises(JournalError, match="cannot be written"):
        open_session(named, PIPELINE, [tmp_path], HALF, tell=told.append)
    assert not told


def test_a_default_journal_that_cannot_be_opened_is_told_and_done_without(
    tmp_path, default_place
) -> None:
    told: list[str] = []
    default_place.parent.parent.write_bytes(b"a file where the folder should be")
    session = open_session(None, PIPELINE, [tmp_path], HALF, tell=told.append)
    assert isinstance(session, NoSession)
    default_place.parent.parent.unlink()
    default_place.parent.mkdir(parents=True)
    default_place.write_bytes(b"no journal" * 1000)
    session = open_session(None, PIPELINE, [tmp_path], HALF, tell=told.append)
    assert isinstance(session, NoSession)
    assert len(told) == 2
    assert "cannot be made" in told[0]
    assert "is damaged, or no journal" in told[1]


def test_a_scan_that_fails_is_listed_as_far_as_it_came(tmp_path) -> None:
    ref = old_file(tmp_path / "a.png")
    named = tmp_path / "case.sqlite"
    broken = pytest.raises(RuntimeError)
    with broken, open_session(named, PIPELINE, [tmp_path], HALF, tell=print) as session:
        session.record(judge(ref, facts_of(ref), 0.75, HALF))
        raise RuntimeError
    with Journal(named) as journal:
        (info,) = journal.scans()
        assert (info.finished, info.files, info.suspects) == (None, 1, 1)


def test_a_memory_is_what_a_scan_asks_for(journal, tmp_path) -> None:
    from scanner.memory import Memory

    def takes(memory: Memory) -> None:
        assert memory.recall([]) == []

    takes(journal.memory(PIPELINE))
    with open_session(tmp_path / "s", PIPELINE, [tmp_path], HALF, tell=print) as session:
        takes(session)
    assert isinstance(journal.memory(PIPELINE), JournalMemory)


def test_what_is_known_is_found_by_search_and_not_by_going_through_all(journal) -> None:
    for sql, values, index in (
        (memory_module._FIND, 6, "INDEX results_by_content (sha256=? AND pipeline_id=?)"),
        (
            memory_module._RECALL.format(marks="?, ?"),
            7,
            "PRIMARY KEY (pipeline_id=? AND folder_id=? AND name=?)",
        ),
    ):
        plan = journal._database.rows(f"EXPLAIN QUERY PLAN {sql}", [b""] * values)
        assert [row[3] for row in plan] == [f"SEARCH results USING {index}"]
