"""The letters of the plain triage: each is obeyed with lines of text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from scanner.domain import no_score
from scanner.errors import ImgscanError, UsageError
from scanner.journal.reviews import Decision
from scanner.report import open_report
from scanner.text import counted, percent, printable
from scanner.tui.columns import SortKey
from scanner.tui.filters import parse
from scanner.tui.items import Item
from scanner.tui.manifest import write_manifest
from scanner.tui.reading import read_items
from scanner.tui.results import result_of
from scanner.tui.rows import name_of, size_text
from scanner.tui.scanning import RUNNING, ScanRun
from scanner.tui.status import found_text, scan_text
from scanner.tui.triage import Triage
from scanner.verdict import bounds

_PAGE = 10
_DECISIONS: dict[str, Decision] = {"f": "fake", "r": "real", "u": "unsure", "s": "skip"}
_SORTS: dict[str, SortKey] = {
    "p": "p", "verdict": "verdict", "name": "name", "folder": "folder", "size": "size",
    "review": "review", "doubt": "doubt", "scan": "scan",
}  # fmt: skip

HELP = """\
Type a letter, and what it needs behind it, then Enter.
f  it is fake            r  it is real
u  unsure                s  skip: seen, not to be decided
(each goes on to the next)
n  next                  b  back
a  next without a decision
d  the most doubtful without a decision
j NUMBER  to that place of the list
e TEXT    a note         t TAG TAG  tags
z  undo                  y  redo
/ FILTER  filter, as: / verdict:fake conf:>90%   (/ alone: all)
o COLUMN  order by p, verdict, name, folder, size, review, doubt or scan; again: turned round
l  list the next ten     g  folders with their suspects
i  all that is known of this file
c  how far the scan is
w FILE.csv  save what is listed as a report
m FILE.csv  save the decisions as a manifest for trainer fit
h  this help             q  quit"""


class PlainTriage:
    """Reads wishes from `source` and writes lines to `sink` until `q` or the end of `source`."""

    def __init__(self, triage: Triage, run: ScanRun | None, source: TextIO, sink: TextIO) -> None:
        self.triage = triage
        self._run = run
        self._source, self._sink = source, sink
        self._place = 0

    def say(self, text: str) -> None:
        """One line or several; nothing in them that a terminal obeys."""
        for line in text.split("\n"):
            print(printable(line), file=self._sink)
        self._sink.flush()

    def loop(self) -> None:
        """Until the end."""
        self.say("imgscan, plain triage. h lists the letters, q quits.")
        if self._run is not None:
            self.say("The scan has begun; c tells how far it is.")
        self._current()
        while True:
            print("> ", end="", file=self._sink, flush=True)
            line = self._source.readline()
            if not line or line.strip() in ("q", "quit"):
                self.say("All decisions are saved.")
                return
            try:
                self._obey(line.strip())
            except ImgscanError as error:
                self.say(f"Error: {error}")

    def _obey(self, line: str) -> None:
        listing = self.triage.listing
        # What the scan has brought meanwhile; the place stays with its file.
        under = int(listing.order[self._place]) if self._place < len(listing) else None
        self.triage.load()
        if under is not None:
            self._place = listing.place(under) or 0
        letter, rest = line[:1], line[1:].strip()
        simple: dict[str, Callable[[], None]] = {
            "": self._current,
            "n": lambda: self._go(self._place + 1),
            "b": lambda: self._go(self._place - 1),
            "a": lambda: self._jump(listing.next_unreviewed(self._place)),
            "d": lambda: self._jump(listing.most_doubtful()),
            "z": lambda: self._back(redo=False),
            "y": lambda: self._back(redo=True),
            "l": self._list,
            "g": self._folders,
            "i": self._info,
            "c": self._scan,
            "h": lambda: self.say(HELP),
            "?": lambda: self.say(HELP),
        }
        with_text: dict[str, Callable[[str], None]] = {
            "j": self._number,
            "e": lambda text: self._annotate(note=text),
            "t": lambda text: self._annotate(tags=tuple(dict.fromkeys(text.split()))),
            "/": self._filter,
            "o": self._order,
            "w": self._report,
            "m": self._manifest,
        }
        if letter in _DECISIONS and not rest:
            self._decide(_DECISIONS[letter])
        elif letter in simple and not rest:
            simple[letter]()
        elif letter in with_text:
            with_text[letter](rest)
        else:
            self.say(f"{line!r} is not known; h lists the letters")

    # --- what is where

    def _item(self) -> Item | None:
        return self.triage.item(self._place)

    def _current(self) -> None:
        item = self._item()
        if item is None:
            self.say(self._nothing())
            return
        self.say(f"{self._place + 1} of {len(self.triage.listing)}: {_line(item)}")

    def _nothing(self) -> str:
        if self.triage.listing.total:
            return "Nothing is listed; / alone shows all."
        if self._run is not None and self._run.progress.state in RUNNING:
            return "No results yet; Enter looks again."
        return "There are no pictures."

    def _go(self, place: int) -> None:
        if not 0 <= place < len(self.triage.listing):
            self.say("That is the end of the list." if place > 0 else "That is the first.")
            return
        self._place = place
        self._current()

    def _jump(self, place: int | None) -> None:
        if place is None:
            self.say("All that is listed is decided.")
        else:
            self._go(place)

    def _number(self, text: str) -> None:
        if not text.isdigit():
            raise UsageError("j needs the number of a place, as in: j 12")
        self._go(int(text) - 1)

    def _list(self) -> None:
        start = self._place
        end = min(start + _PAGE, len(self.triage.listing))
        for place in range(start, end):
            item = self.triage.item(place)
            if item is not None:
                self.say(f"{place + 1}: {_line(item)}")

    def _folders(self) -> None:
        for group in self.triage.listing.groups():
            of = f"{counted(group.suspects, 'suspect')} of {counted(group.files, 'file')}"
            self.say(f"{group.path}: {of}, {percent(group.density)}; {group.reviewed} decided")

    def _info(self) -> None:
        item = self._item()
        if item is None:
            self._current()
            return
        facts = item.facts
        self.say(f"Path: {item.ref.name}")
        self.say(f"Says: {_verdict(item)}")
        judged = item.p_fake is not None and not no_score(item.facts, item.verdict)
        score = f"P(fake) {percent(item.p_fake or 0)}; " if judged else ""
        low, high = bounds(self.triage.subject.point)
        unsure = f", unsure from {percent(low)}" if low < high else ""
        self.say(f"{score}fake from {percent(high)}{unsure} ({item.operating_point})")
        self.say(f"Size: {size_text(facts.bytes)}, {facts.width} by {facts.height} pixels")
        self.say(f"Format: {facts.format or 'unknown'}; notes: {', '.join(facts.notes) or 'none'}")
        self.say(f"SHA-256: {facts.sha256 or 'never read'}")
        self.say(f"Decision: {item.review or 'none'} {item.reviewer and 'by ' + item.reviewer}")
        self.say(f"Note: {item.note or 'none'}; tags: {' '.join(item.tags) or 'none'}")

    def _scan(self) -> None:
        text = scan_text(None if self._run is None else self._run.progress, 60)
        found = found_text(*self.triage.listing.verdicts())
        self.say(text or f"No scan is running. Listed: {found}.")
        if self._run is not None and self._run.progress.problem:
            self.say(self._run.progress.problem)

    # --- decisions

    def _decide(self, decision: Decision) -> None:
        item = self._item()
        if item is None:
            self._current()
            return
        order, place = self.triage.listing.order, self._place
        after = int(order[place + 1]) if place + 1 < len(order) else None
        done = self.triage.decide([item.seq], decision)
        if done.unread:
            self.say("This file was never read, so there is nothing to decide on.")
            return
        self.say(f"{name_of(item)}: decided {decision}.")
        found = None if after is None else self.triage.listing.place(after)
        self._go(place + 1 if found is None else found)

    def _annotate(self, note: str | None = None, tags: tuple[str, ...] | None = None) -> None:
        item = self._item()
        if item is None:
            self._current()
            return
        self.triage.annotate([item.seq], note, item.tags if tags is None else tags)
        self._current()

    def _back(self, *, redo: bool) -> None:
        done = self.triage.redo() if redo else self.triage.undo()
        if not done.count:
            self.say(f"There is nothing to {'redo' if redo else 'undo'}.")
            return
        self.say(f"{'Redone' if redo else 'Undone'}: {counted(done.count, 'decision')}.")
        place = self.triage.listing.place(done.seqs[0]) if done.seqs else None
        if place is not None:
            self._go(place)

    # --- lists

    def _filter(self, text: str) -> None:
        self.triage.show(parse(text))
        self._place = 0
        self.say(f"{len(self.triage.listing)} of {counted(self.triage.listing.total, 'file')}.")
        self._current()

    def _order(self, column: str) -> None:
        if column not in _SORTS:
            raise UsageError(f"o needs one of {', '.join(_SORTS)}")
        self.triage.sort(_SORTS[column])
        self._place = 0
        self._current()

    def _new_file(self, text: str) -> Path:
        if not text:
            raise UsageError("give the file's name too, as in: w suspects.csv")
        path = Path(text).expanduser()
        if path.exists():
            raise UsageError(f"{path}: is there already; give another name")
        return path

    def _report(self, text: str) -> None:
        triage, path = self.triage, self._new_file(text)
        seqs = [int(seq) for seq in triage.listing.order]
        with open_report(path, triage.subject.model, triage.journal.review_of) as rows:
            for item in read_items(triage.journal, triage.subject, seqs):
                rows.write(result_of(item, triage.subject.point))
        self.say(f"Saved {counted(len(seqs), 'row')} in {path.absolute()}.")

    def _manifest(self, text: str) -> None:
        triage, path = self.triage, self._new_file(text)
        seqs = [int(seq) for seq in triage.listing.order]
        written = write_manifest(path, read_items(triage.journal, triage.subject, seqs))
        self.say(f"Saved {written.labels['real']} real and {written.labels['fake']} fake.")
        for reason, count in written.left_out.items():
            self.say(f"Left out: {count} {reason}.")
        if written.warning:
            self.say(written.warning)


def _line(item: Item) -> str:
    """A file in one sentence, the most telling first."""
    decided = f"decided {item.review}" if item.review else "undecided"
    size = size_text(item.facts.bytes)
    where = item.ref.path.parent
    extra = f" Note: {item.note}." if item.note else ""
    extra += f" Tags: {' '.join(item.tags)}." if item.tags else ""
    return f"{_verdict(item)}. {decided}. {name_of(item)}, {size}, in {where}.{extra}"


def _verdict(item: Item) -> str:
    if item.p_fake is None:
        return f"failed, {item.reason}: {item.detail}"
    if why := no_score(item.facts, item.verdict):
        return f"{item.verdict}, no score to go by: {', '.join(why)}"
    return f"{item.verdict}, confidence {percent(item.confidence or 0)}"
