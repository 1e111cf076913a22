"""Deciding: every decision is in the journal before its key is answered."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on, work
from textual.message import Message

from scanner.errors import ImgscanError
from scanner.journal.reviews import RANKS, Decision, Review
from scanner.text import counted, printable
from scanner.tui.reading import read_items
from scanner.tui.rows import name_of
from scanner.tui.screens.ask import NoteScreen, confirm
from scanner.tui.screens.listed import ListScreen
from scanner.tui.triage import MANY, Change, Done, changes

# A folder of more files is asked about: its files are not all on the screen.
_ASK_FROM = 20


class DecidingScreen(ListScreen):
    """A list whose files can be decided on, one by one or many at once."""

    class Decided(Message):
        """A thread has written many decisions, or taken them back."""

        def __init__(self, reviews: Sequence[Review], unread: int, what: str) -> None:
            super().__init__()
            self.reviews, self.unread, self.what = reviews, unread, what

    _busy = ""  # what a thread writes now
    # How many each key press decided, so that undoing many is left to a thread too.
    _sizes: tuple[int, ...] = ()
    _undone_sizes: tuple[int, ...] = ()

    def subjects(self) -> list[int]:
        """What a command is about: the selection that is listed, else the row or the folder."""
        listing = self.triage.listing
        if self.grouped:
            if self.groups_table.cursor >= len(self.groups):
                return []
            return listing.of_folder(self.groups[self.groups_table.cursor].folder)
        if self.selected:
            # What cannot be seen in the list is not touched.
            return [int(seq) for seq in self.selected.among(listing.order)]
        return [] if self._under is None else [self._under]

    def action_decide(self, decision: Decision) -> None:
        """Decide on the subjects."""
        seqs = self.subjects()
        many = self.grouped or bool(self.selected)
        others = self.triage.listing.decided_otherwise(seqs, RANKS[decision]) if many else 0
        if others or (self.grouped and len(seqs) > _ASK_FROM):
            question = f"Decide {counted(len(seqs), 'file')}: {decision}?"
            details = "Ctrl+Z takes it back."
            if others:
                are = "is" if others == 1 else "are"
                details = f"{others:,} of them {are} decided otherwise already.\n{details}"
            if self.grouped:
                folder = printable(str(self.groups[self.groups_table.cursor].path))
                details = f"{folder}\n{details}"

            def decided(yes: bool | None) -> None:
                if yes:
                    self._decide(seqs, decision)

            self.app.push_screen(confirm(self.app).ask(question, "Decide", details), decided)
        else:
            self._decide(seqs, decision)

    def _decide(self, seqs: list[int], decision: Decision) -> None:
        self._change(
            seqs,
            lambda item: (decision, item.note, item.tags),
            f"{counted(len(seqs), 'file')}: {decision}",
            go_on=True,
        )

    def action_annotate(self) -> None:
        """Note and tags of the subjects."""
        seqs = self.subjects()
        if not seqs:
            return
        first = self.triage.items(seqs[:1])
        if len(seqs) == 1 and first:
            title, note, tags = printable(name_of(first[0])), first[0].note, first[0].tags
        else:
            title, note, tags = counted(len(seqs), "file"), None, ()

        def annotated(answer: tuple[str | None, tuple[str, ...]] | None) -> None:
            if answer is None:
                return
            text, new = answer
            self._change(
                seqs,
                lambda item: (item.review or "skip", item.note if text is None else text, new),
                f"{counted(len(seqs), 'file')}: note and tags",
                go_on=False,
            )

        screen = self.app.get_screen("note", NoteScreen)
        self.app.push_screen(screen.ask(title, note, tags), annotated)

    def _change(self, seqs: list[int], change: Change, what: str, *, go_on: bool) -> None:
        if self._is_busy() or not seqs:
            return
        self._sizes = (*self._sizes[-99:], len(seqs))
        self._undone_sizes = ()
        if len(seqs) > MANY:
            self._busy = what
            self._write_many(seqs, change, what)
            return
        # Where to go on is known before the decision takes the row away, or elsewhere.
        single = len(seqs) == 1 and not self.grouped and not self.selected
        order, cursor = self.triage.listing.order, self.files.cursor
        after = int(order[cursor + 1]) if single and go_on and cursor + 1 < len(order) else None
        try:
            done = self.triage.apply(self.triage.items(seqs), change)
        except ImgscanError as error:
            self.tell(str(error), error=True)
            return
        if done.unread:
            self.tell(_unread(done.unread), error=True)
        if not done.seqs:
            return
        if len(seqs) > 1:
            self.tell(f"{what} · Ctrl+Z takes it back")
        self._shown_anew(done, after)

    def _shown_anew(self, done: Done, go_to: int | None) -> None:
        listing = self.triage.listing
        if not self.grouped and self.selected:
            self.selected.remove(done.seqs)
        place = None if go_to is None else listing.place(go_to)
        if self._drawn == listing.version and not self.grouped and len(done.seqs) < _ASK_FROM:
            places = (listing.place(seq) for seq in done.seqs)
            self.files.redraw([place for place in places if place is not None])
            self.draw_counts()
        else:
            self.redraw(keep=go_to is None)
        if place is not None:
            self._followed = False
            self.files.cursor = place
        self.show_item()

    # --- many at once

    def _is_busy(self) -> bool:
        if self._busy:
            self.tell(f"Still writing {self._busy}; a moment", error=True)
        return bool(self._busy)

    @work(thread=True, group="write")
    def _write_many(self, seqs: list[int], change: Change, what: str) -> None:
        triage = self.triage
        try:
            items = read_items(self.reader, triage.subject, seqs)
            asked, unread = changes(items, triage.subject.model_digest, change)
            reviews = self.reader.reviews.set_all(asked, reviewer=triage.reviewer)
            self.post_message(self.Decided(reviews, unread, f"{what} · Ctrl+Z takes it back"))
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))
        finally:
            self._busy = ""

    @work(thread=True, group="write")
    def _take_back_many(self, redo: bool) -> None:
        reviews = self.reader.reviews
        try:
            method = reviews.redo_all if redo else reviews.undo_all
            done = method(self.triage.reviewer)
            what = f"{'Redone' if redo else 'Undone'}: {counted(len(done), 'decision')}"
            self.post_message(self.Decided(done, 0, what))
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))
        finally:
            self._busy = ""

    @on(Decided)
    def _decided(self, message: Decided) -> None:
        done = self.triage.changed(message.reviews, message.unread)
        if message.unread:
            self.tell(_unread(message.unread), error=True)
        self.tell(message.what)
        self.selected.clear()
        self._shown_anew(done, None)

    # --- undo and redo

    def action_undo(self) -> None:
        """Take back what this reviewer decided last, also in an earlier session."""
        self._back_or_forth(redo=False)

    def action_redo(self) -> None:
        """Take back the last undo."""
        self._back_or_forth(redo=True)

    def _back_or_forth(self, *, redo: bool) -> None:
        if self._is_busy():
            return
        size = 0
        if redo and self._undone_sizes:
            size = self._undone_sizes[-1]
            self._undone_sizes = self._undone_sizes[:-1]
            self._sizes = (*self._sizes, size)
        elif not redo and self._sizes:
            size = self._sizes[-1]
            self._sizes = self._sizes[:-1]
            self._undone_sizes = (*self._undone_sizes, size)
        if size > MANY:
            self._busy = "what is redone" if redo else "what is undone"
            self._take_back_many(redo)
            return
        try:
            done = self.triage.redo() if redo else self.triage.undo()
        except ImgscanError as error:
            self.tell(str(error), error=True)
            return
        word = "Redone" if redo else "Undone"
        if not done.count:
            self.tell(f"There is nothing to {'redo' if redo else 'undo'}")
            return
        # Back to where it happened, so that it can be decided anew.
        self._shown_anew(done, done.seqs[0] if done.seqs else None)
        items = self.triage.items(done.seqs[:1])
        if done.count > 1:
            self.tell(f"{word}: {counted(done.count, 'decision')}")
        elif items:
            self.tell(f"{word}: {name_of(items[0])} is {items[0].review or 'undecided'}")
        else:
            self.tell(f"{word}: a decision on a picture that is not in this scan")

    # --- where to go

    def action_next(self, step: int) -> None:
        """The next or previous file without a decision."""
        self._go(self.triage.listing.next_unreviewed(self.files.cursor, step))

    def action_doubtful(self) -> None:
        """The undecided file whose P(fake) is nearest to the threshold."""
        self._go(self.triage.listing.most_doubtful())

    def _go(self, place: int | None) -> None:
        if self.grouped:
            self.action_groups()
        if place is None:
            self.tell("All that is listed is decided")
        else:
            self._followed = False
            self.files.cursor = place


def _unread(count: int) -> str:
    files = "This file was" if count == 1 else f"{count:,} files were"
    return f"{files} never read, so there is nothing to decide on; see why, then R scans again"
