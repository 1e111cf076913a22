"""Paths on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from scanner.embedded import EMBEDDED
from scanner.errors import UsageError


class PathType(click.Path):
    """A path that is not empty: Python takes "" for the working directory.

    Whether it can be read is asked where it is, so that the answer is a row and no wrong usage.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Raises UsageError for nothing."""
        if not os.fspath(value):
            what = param.opts[0] if isinstance(param, click.Option) else "PATH"
            raise UsageError(f"{what} is empty; the working directory is .")
        return super().convert(value, param, ctx)


class ModelType(PathType):
    """The name of an embedded model, or a bundle's folder: ./fast is a folder, fast is none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """As above; made absolute where a name and a folder could be taken for each other."""
        path = super().convert(value, param, ctx)
        # A Path forgets the dot that told them apart.
        named = os.fspath(path) in EMBEDDED and os.fspath(value) not in EMBEDDED
        return Path(os.fsdecode(path)).absolute() if named else path
