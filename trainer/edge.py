"""The outermost layer of the command lines: exceptions to one line and an exit status."""

from __future__ import annotations

import sys

import click

from scanner.errors import ImgscanError
from scanner.text import one_line, printable

# 0 done, 3 the request, the data or a run is not usable, 130 interrupted.
USAGE_ERROR, INTERRUPTED = 3, 130


def say(text: str) -> None:
    """One line to standard error, whatever file names it holds."""
    click.echo(printable(text), err=True)


def run(command: click.Command, *, name: str, interrupted: str) -> None:
    """Run `command` as program `name` and exit; `interrupted` says what Ctrl-C left behind."""
    try:
        command.main(prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        say(f"Error: {error.format_message()}")
        sys.exit(USAGE_ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{name}: {interrupted}", err=True)
        sys.exit(INTERRUPTED)
    except ImgscanError as error:
        say(f"{name}: {error}")
        sys.exit(USAGE_ERROR)
    except OSError as error:
        # A disk that is full, a folder that may not be written, a file that is gone.
        where = f"{error.filename}: " if error.filename is not None else ""
        say(f"{name}: {where}{error.strerror or one_line(error)}")
        sys.exit(USAGE_ERROR)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("scanner", "trainer", "export"):
            raise  # a defect of ours, not of the installation
        click.echo(
            f"{name}: {error.name} is not installed; `pip install 'imgscan[train]'` (in a clone: "
            "`pip install '.[train]'`) brings what training and exporting need",
            err=True,
        )
        sys.exit(USAGE_ERROR)
