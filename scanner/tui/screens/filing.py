"""Commands on files: open, reveal, copy the path, save lists, move and copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from textual import on, work
from textual.message import Message

from scanner.errors import ImgscanError, UsageError
from scanner.report import check_format, open_report
from scanner.text import counted, printable
from scanner.tui.desktop import open_in_viewer, reveal
from scanner.tui.items import Item
from scanner.tui.manifest import write_manifest
from scanner.tui.places import check_folder, check_new_file
from scanner.tui.reading import read_items
from scanner.tui.results import result_of
from scanner.tui.screens.ask import AskScreen, confirm
from scanner.tui.screens.choose import ChooseScreen, TextScreen
from scanner.tui.screens.deciding import DecidingScreen
from scanner.tui.transfer import Kind, Operation, Outcome, TransferLog

_DONE = {"move": "Moved", "copy": "Copied"}
# Failures that fit into a toast; more get a screen.
_IN_TOAST = 1


class FilingScreen(DecidingScreen):
    """A list whose files can be opened, saved as lists, moved and copied."""

    transfers: TransferLog

    class Transferred(Message):
        """Files lie elsewhere now."""

        def __init__(self, what: str, outcome: Outcome) -> None:
            super().__init__()
            self.what, self.outcome = what, outcome

    class Said(Message):
        """A thread has done something worth a line; what to show is a warning, or is not."""

        def __init__(self, text: str, warning: bool = False) -> None:
            super().__init__()
            self.text, self.warning = text, warning

    @on(Said)
    def _said(self, message: Said) -> None:
        self.tell(message.text, error=message.warning)

    # --- one file

    def action_open(self) -> None:
        """In the system's viewer."""
        item = self.item
        if item is not None:
            self._outside(lambda: open_in_viewer(item, item.ref.path))

    def action_reveal(self) -> None:
        """In the file manager."""
        if self.grouped and self.groups:
            path = self.groups[self.groups_table.cursor].path
            self._outside(lambda: reveal(path))
        elif self.item is not None:
            path = self.item.ref.path
            self._outside(lambda: reveal(path))

    @work(thread=True, group="desktop")
    def _outside(self, action: Callable[[], None]) -> None:
        try:
            action()
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))

    def action_copy_path(self) -> None:
        """To the clipboard, by the terminal (OSC 52), so that it works over ssh too."""
        if self.grouped and self.groups:
            path = str(self.groups[self.groups_table.cursor].path)
        elif self.item is not None:
            path = self.item.ref.name
        else:
            return
        if any(0xD800 <= ord(mark) <= 0xDFFF for mark in path):
            self.tell("The name is not UTF-8: no clipboard can hold it; w saves it", error=True)
            return
        self.app.copy_to_clipboard(path)
        self.tell(f"Copied: {path}")

    # --- lists

    def action_save_report(self) -> None:
        """What is listed, by the writers of --report."""
        count = len(self.triage.listing)
        if not count:
            self.tell("Nothing is listed, so there is nothing to save", error=True)
            return
        self._ask_path(
            f"Save {counted(count, 'listed file')} as a report",
            "imgscan-report.csv",
            "The extension names the format, as with --report",
            _check_format,
            self._save_report,
        )

    def action_save_manifest(self) -> None:
        """Decisions on what is listed, for `trainer fit`."""
        folders = {str(path) for path in self.triage.listing.folders.values()}
        if not folders:
            self.tell("There are no pictures to save decisions on", error=True)
            return
        common = Path(os.path.commonpath(folders))

        def check(path: Path) -> None:
            below = Path(os.path.realpath(path.absolute().parent))
            if not any(Path(folder).is_relative_to(below) for folder in folders):
                raise UsageError(f"a manifest has to lie above the pictures; put it into {common}")

        self._ask_path(
            "Save the decisions (real, fake) on what is listed as a manifest",
            str(common / "reviewed.csv"),
            "It has to lie above the pictures: trainer fit --data reviewed.csv",
            check,
            self._save_manifest,
        )

    def _ask_path(
        self,
        title: str,
        default: str,
        hint: str,
        check: Callable[[Path], None],
        save: Callable[[Path, list[int]], object],
    ) -> None:
        # What is listed when it is asked for, whatever the scan adds meanwhile.
        seqs = [int(seq) for seq in self.triage.listing.order]

        def checked(answer: str) -> str:
            path = Path(answer).expanduser()
            check(path)
            check_new_file(path)
            there = os.path.lexists(path)
            return f"{printable(str(path))} is there already. Replace it?" if there else ""

        def answered(answer: str | None) -> None:
            if answer is not None:
                save(Path(answer).expanduser(), seqs)

        self.app.push_screen(AskScreen(title, default, hint, checked, enter="saves"), answered)

    @work(thread=True, group="save")
    def _save_report(self, path: Path, seqs: list[int]) -> None:
        triage = self.triage
        try:
            with open_report(path, triage.subject.model, self.reader.review_of) as rows:
                for item in read_items(self.reader, triage.subject, seqs):
                    rows.write(result_of(item, triage.subject.point))
            self.post_message(self.Said(f"Saved {counted(len(seqs), 'row')} in {path.absolute()}"))
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error).removeprefix("--report ")))

    @work(thread=True, group="save")
    def _save_manifest(self, path: Path, seqs: list[int]) -> None:
        items: Iterator[Item] = read_items(self.reader, self.triage.subject, seqs)
        try:
            written = write_manifest(path, items)
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))
            return
        text = (
            f"Saved {written.labels['real']:,} real and {written.labels['fake']:,} fake in {path}"
        )
        left = [
            f"{n:,} {reason}" for reason, n in written.left_out.items() if reason != "undecided"
        ]
        if left:
            text += f"; left out: {', '.join(left)}"
        if written.warning:
            text += f"; {written.warning}"
        self.post_message(self.Said(text, bool(written.warning)))

    # --- move and copy

    def action_transfer(self, kind: Kind) -> None:
        """Move or copy the subjects into a folder, after a question."""
        seqs = self.subjects()
        if not seqs:
            self.tell("Nothing is selected, and there is no file under the cursor", error=True)
            return
        count = "this file" if len(seqs) == 1 else counted(len(seqs), "file")

        def answered(answer: str | None) -> None:
            if answer is None:
                return
            folder = Path(answer).expanduser().absolute()

            def confirmed(yes: bool | None) -> None:
                if yes:
                    self._transfer(seqs, folder, kind)

            names = [printable(item.ref.name) for item in self.triage.items(seqs[:5])]
            if len(seqs) > 5:
                names.append(f"and {len(seqs) - 5:,} more")
            details = "\n".join(names) + "\n\nNothing is overwritten; L undoes it."
            question = f"{kind.capitalize()} {count} to {printable(str(folder))}?"
            screen = confirm(self.app).ask(question, kind.capitalize(), details)
            self.app.push_screen(screen, confirmed)

        def checked(answer: str) -> str:
            check_folder(Path(answer).expanduser().absolute())
            return ""

        title = f"{kind.capitalize()} {count} to which folder?"
        hint = "It is made if it is not there. What is to be done is shown before it is."
        self.app.push_screen(AskScreen(title, "", hint, checked, enter="goes on"), answered)

    @work(thread=True, group="transfer", exclusive=True)
    def _transfer(self, seqs: list[int], folder: Path, kind: Kind) -> None:
        # As the scan found them: where they lie by now is the log's to know.
        found = replace(self.triage.subject, where=lambda path: path)
        refs = [item.ref for item in read_items(self.reader, found, seqs)]
        try:
            outcome = self.transfers.transfer(refs, folder, kind)
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))
            return
        what = f"{_DONE[kind]} {counted(outcome.done, 'file')} to {folder}"
        self.post_message(self.Transferred(f"{what} · L undoes it", outcome))

    def action_transfers(self) -> None:
        """What was moved and copied, the last first; Enter undoes."""
        operations = [each for each in reversed(self.transfers.operations) if not each.undone]
        if not operations:
            self.tell("Nothing was moved or copied that could be undone")
            return
        choices = [
            f"{each.time[:16].replace('T', ' ')}  {_DONE[each.kind].lower()} "
            f"{counted(len(each.steps), 'file')} to {printable(str(each.folder))}"
            for each in operations
        ]

        def chosen(place: int | None) -> None:
            if place is not None:
                self._undo_transfer(operations[place])

        screen = ChooseScreen("Moved and copied", choices, "Enter: undo it · Esc: close")
        self.app.push_screen(screen, chosen)

    @work(thread=True, group="transfer", exclusive=True)
    def _undo_transfer(self, operation: Operation) -> None:
        try:
            outcome = self.transfers.undo(operation)
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))
            return
        self.post_message(self.Transferred(f"Undone: {counted(outcome.done, 'file')}", outcome))

    @on(Transferred)
    def _transferred(self, message: Transferred) -> None:
        self.triage.forget_rows()
        self.selected.clear()
        self.redraw(keep=True)
        self.show_item()
        failed = message.outcome.failed
        if len(failed) <= _IN_TOAST:
            problem = "".join(f"; {path}: {why}" for path, why in failed)
            self.tell(message.what + problem, error=bool(failed))
            return
        lines = [f"{printable(str(path))}: {printable(why)}" for path, why in failed]
        self.app.push_screen(TextScreen(f"{message.what}; {len(failed):,} were not", lines))


def _check_format(path: Path) -> None:
    try:
        check_format(path)
    except ImgscanError as error:
        raise UsageError(str(error).removeprefix("--report ")) from None
