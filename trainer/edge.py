"""The outermost layer of the command lines: exceptions to one line and an exit status."""

from __future__ import annotations

import sys

import click

from scanner.errors import ImgscanError

# 0 done, 3 the request, the data or a run is not usable, 130 interrupted.
USAGE_ERROR, INTERRUPTED = 3, 130


def run(command: click.Command, *, name: str, interrupted: str) -> None:
    """Run `command` as program `name` and exit; `interrupted` says what Ctrl-C left behind."""
    try:
        command.main(prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE_ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{name}: {interrupted}", err=True)
        sys.exit(INTERRUPTED)
    except ImgscanError as error:
        click.echo(f"{name}: {error}", err=True)
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
