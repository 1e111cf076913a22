"""`imgscan`: the only place of the scanning side that prints and exits."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

# What is heavy (numpy, Pillow, onnxruntime, rich) is imported where it is used, so that --help
# and a mistyped option answer at once.
import click

from scanner import __version__
from scanner.commands import named_command
from scanner.embedded import MODEL_HELP
from scanner.errors import ImgscanError, UsageError
from scanner.options.journal import JournalOptions, journal_options
from scanner.options.limits import limit_options
from scanner.options.paths import ModelType, PathType
from scanner.options.triage import TriageOptions, triage_options
from scanner.options.walk import WalkOptions, walk_options
from scanner.text import printable

if TYPE_CHECKING:
    from scanner.limits import Limits
    from scanner.tally import Tally

NOTHING_SUSPECT, SUSPECTS, SOME_FAILED, NOT_RUN, INTERRUPTED = 0, 1, 2, 3, 130
_SHOWN = 5  # failed and unsure files by name, each

_EPILOG = """\b
Also: imgscan explain FILE --out SHEET.png draws what moved one picture's score.
      imgscan doctor says what this installation has, and what is wrong with it.
      imgscan card says what the model was fitted on, how good it is, and its limits.
      (Files of these names: ./explain, ./doctor, ./card)

\b
Exit status:
  0    nothing suspect
  1    suspects were found
  2    some files could not be read (whether or not there were suspects)
  3    the scan did not run, or broke off: wrong usage, a bad model, a full disk
  130  interrupted; the rows so far are in the report"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.argument("paths", nargs=-1, metavar="PATH...", type=PathType())
@click.option(
    "--report",
    type=PathType(),
    metavar="FILE.csv|FILE.jsonl",
    help="Write a row for every file; the extension names the format.",
)
@click.option("--threshold", type=float, help="Call it fake from this P(fake), 0 to 1.")
@click.option(
    "--operating-point",
    metavar="NAME",
    help="Use this threshold of the model's: youden, best_f1 or others it has.",
)
@click.option(
    "--model",
    type=ModelType(),
    metavar="NAME|FOLDER",
    help=MODEL_HELP,
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Pictures scored together.",
)
@limit_options
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help="List at most the N surest suspects; 0 for none.",
)
@walk_options
@journal_options
@triage_options
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
@click.option(
    "--exit-zero", is_flag=True, help="Exit with 0 whenever the scan ran to its end (for scripts)."
)
@click.version_option(__version__, prog_name="imgscan", message="%(prog)s %(version)s")
def imgscan(
    paths: tuple[Path, ...],
    report: Path | None,
    threshold: float | None,
    operating_point: str | None,
    model: Path | None,
    device: Literal["auto", "cuda", "cpu"],
    batch_size: int,
    limits: Limits,
    top: int,
    quiet: bool,
    exit_zero: bool,
    walk: WalkOptions,
    remember: JournalOptions,
    triage: TriageOptions,
) -> int:
    """Tell AI-generated pictures from real ones in files and folders."""
    if not sys.warnoptions:
        # Pillow warns of oddities in single files; what matters of them is in the rows.
        warnings.simplefilter("ignore")

    from scanner.plan import OpenedScan, Request

    request = Request(
        paths=paths,
        walk=walk,
        limits=limits,
        model=model,
        operating_point=operating_point,
        threshold=threshold,
        device=device,
        batch_size=batch_size,
        renew=remember.rescan,
    )
    if triage.tui:
        from scanner.tui.start import start

        return start(request, triage, remember, report)
    if not paths and walk.files_from is None:
        raise UsageError("give a file or folder to scan; `imgscan --help` lists the options")

    from scanner.console import ScanProgress, show_summary, show_suspects
    from scanner.interrupts import Interrupts
    from scanner.journal import NoSession, Session, open_session
    from scanner.report import check_format, open_report
    from scanner.tally import Tally

    if report is not None:
        check_format(report)
    opened = OpenedScan(request)
    journal: Session | NoSession = NoSession()
    if remember.use:
        journal = open_session(
            remember.path,
            opened.pipeline,
            paths,
            opened.point,
            selection=opened.selection,
            renew=opened.renew,
            tell=_complain,
        )
    top = 0 if quiet else top
    tally = Tally(keep_suspects=top, keep_unsure=min(top, _SHOWN), keep_failures=_SHOWN)
    progress = ScanProgress(paths, walk, shown=sys.stderr.isatty() and not quiet)
    interrupted = False
    with Interrupts() as interrupts, opened.spool, journal:
        try:
            with (
                nullcontext()
                if report is None
                else open_report(report, opened.model_name, journal.review_of) as rows
            ):
                # Interrupted midway, a library that is being loaded fails in ways of its own.
                with interrupts.held():
                    detector = opened.load()
                if detector.note and not quiet:
                    _complain(detector.note)
                memory = None if isinstance(journal, NoSession) else journal
                results = opened.scan(detector, memory)
                try:
                    with progress, closing(results):
                        for result in results:
                            with interrupts.held():
                                if rows is not None:
                                    rows.write(result)
                                journal.record(result)
                                tally.add(result)
                                progress.update(tally)
                finally:
                    interrupts.no_more()
                journal.finish()
            # Report and list are whole. This may take long, and the next scan can do it too.
            with interrupts.ending():
                journal.tidy()
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        _complain("interrupted")
    elif not tally.scanned:
        _complain("there are no pictures in what was given")
    # Interrupted before the first row, there is nothing to tell, and no report either.
    if (tally.scanned or not interrupted) and not quiet:
        try:
            with _printing():
                if tally.surest:
                    show_suspects(tally, report)
                show_summary(
                    tally,
                    seconds=progress.seconds,
                    device=detector.device,
                    stages=detector.stages_used,
                    model=opened.model_name,
                    point=opened.point,
                    known=journal.known,
                    left_out=opened.counts.describe(),
                    report=report,
                    interrupted=interrupted,
                )
        except ImgscanError as error:
            # What was interrupted was that first; with --exit-zero, that it ran is what counts.
            if not (interrupted or exit_zero):
                raise
            _complain(str(error))
    if interrupted:
        return INTERRUPTED
    return 0 if exit_zero else _exit_status(tally)


def _exit_status(tally: Tally) -> int:
    """Like grep: an error outweighs a find, or a script could not tell that files were missed."""
    if tally.failed:
        return SOME_FAILED
    return SUSPECTS if tally.suspects else NOTHING_SUSPECT


def run(args: list[str] | None = None) -> int:
    """The command line `args` (`sys.argv` if None) to an exit status."""
    _mend_streams()
    try:
        args = sys.argv[1:] if args is None else args
        command = named_command(args)
        if command is None:
            status = imgscan.main(args, prog_name="imgscan", standalone_mode=False)
        else:
            status = command.main(
                args[1:], prog_name=f"imgscan {command.name}", standalone_mode=False
            )
        with _printing():  # --help and --version too go through a pipe that may be closed
            sys.stdout.flush()
        return int(status or 0)
    except click.Abort:  # Ctrl-C before the scan
        return INTERRUPTED
    except click.NoSuchOption as error:
        # As a shell puts one in the place of *.
        given = list(args or ())
        options = given[: given.index("--")] if "--" in given else given
        name = error.option_name
        file = next((arg for arg in options if arg.startswith(name) and os.path.lexists(arg)), None)
        hint = f" For the file give ./{file}, or -- before all names." if file else ""
        _complain(error.format_message() + hint)
    except click.ClickException as error:
        _complain(error.format_message())
    except ImgscanError as error:
        _complain(str(error))
    # A defect of this program. Python would exit with 1, which here means "suspects found".
    except Exception:  # noqa: BLE001
        for line in traceback.format_exc().splitlines():
            _complain(line)
    return NOT_RUN


@contextmanager
def _printing() -> Iterator[None]:
    """Printing to a pipe that nobody reads any more ends quietly."""
    try:
        yield
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        raise ImgscanError(f"the result cannot be printed: {error.strerror or error}") from None


def _drop_stdout() -> None:
    # Python flushes what is left at exit, and would then fail with a message and a status of
    # its own.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _mend_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this
            # Left open for as long as the process lives, as the stream would have been.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            # A name the terminal's encoding lacks is shown escaped; it is no reason to stop.
            stream.reconfigure(errors="backslashreplace")


def _complain(message: str) -> None:
    with suppress(OSError):  # nobody is listening
        print(f"imgscan: {printable(message)}", file=sys.stderr, flush=True)
