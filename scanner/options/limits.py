"""What one file may cost: `--timeout`, `--memory-limit`, `--max-pixels`, `--max-file-bytes`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from scanner.limits import (
    DEFAULT_LIMITS,
    DEFAULT_TIMEOUT_S,
    DecodeLimits,
    Limits,
    default_memory_mb,
    default_workers,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes that decode.  [default: the cores there are]",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0.1, max=86_400),
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="Give up a file whose decoding takes longer.",
    ),
    click.option(
        "--memory-limit",
        type=click.IntRange(min=16),
        metavar="MB",
        help="Give up a file whose decoding takes more (Linux only).  "
        "[default: 4096, or the machine's or container's memory shared by the workers]",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=DEFAULT_LIMITS.max_pixels,
        show_default=True,
        metavar="N",
        help="Give up a picture of more pixels.",
    ),
    click.option(
        "--max-file-bytes",
        type=click.IntRange(min=1),
        default=DEFAULT_LIMITS.max_bytes,
        show_default=True,
        metavar="N",
        help="Give up a file of more bytes.",
    ),
)


def limit_options(command: _Command) -> _Command:
    """Add the options; `command` is called with `limits`, a `Limits`, in their place."""

    @functools.wraps(command)
    def with_limits(
        *args: Any,
        workers: int | None,
        timeout: float,
        memory_limit: int | None,
        max_pixels: int,
        max_file_bytes: int,
        **others: Any,
    ) -> Any:
        count = workers or default_workers()
        memory_mb = memory_limit or default_memory_mb(count)
        decode = DecodeLimits(max_pixels=max_pixels, max_bytes=max_file_bytes)
        limits = Limits(count, timeout, memory_mb, decode)
        return command(*args, limits=limits, **others)

    decorated: Any = with_limits
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
