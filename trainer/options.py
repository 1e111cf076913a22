"""Options that several commands share: each group reaches a command as one frozen dataclass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanner.options.paths import PathType

if TYPE_CHECKING:
    from trainer.decoded import DecodedPictures

path_type = PathType()
Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where PyTorch computes: `device` is "auto", "cuda" or "cpu"."""

    device: str
    threads: int | None

    @property
    def chosen(self) -> str | None:
        """The device that was asked for; None: whatever there is."""
        return None if self.device == "auto" else self.device

    def limit_threads(self) -> None:
        """Tell PyTorch, which takes seconds to import: after all that can be wrong before."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)


@dataclass(frozen=True, slots=True)
class Cache:
    """Where decoded pictures are kept: `cache` None: the command's own place."""

    cache: Path | None
    cache_limit: float  # GB

    def open(self, otherwise: Path | None) -> DecodedPictures | None:
        """None where `cache_limit` is 0, or no folder is named here or by `otherwise`."""
        from trainer.decoded import DecodedPictures

        folder = self.cache or otherwise
        if folder is None or not self.cache_limit:
            return None
        return DecodedPictures(folder, limit=round(self.cache_limit * 1e9))


@dataclass(frozen=True, slots=True)
class Request:
    """What is fitted: data, and a preset with changes."""

    data: Path
    preset: str
    sample: float | None
    encoder_weights: str | None
    workers: int | None
    seed: int | None
    settings: tuple[str, ...]

    def given(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The changes to the preset, `more` of them included; --set has the last word."""
        from trainer.cli import parse_settings

        named = {
            "sample": self.sample, "encoder_weights": self.encoder_weights,
            "workers": self.workers, "seed": self.seed, **(more or {}),
        }  # fmt: skip
        left = {name: value for name, value in named.items() if value is not None}
        return {**left, **parse_settings(self.settings)}


def machine_options(command: Command) -> Command:
    """--device and --threads, as `machine`."""
    device = click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto")
    threads = click.option("--threads", type=click.IntRange(1), help="CPU threads of PyTorch.")
    return device(threads(_gathered(command, Machine, "machine")))


def cache_options(what: str, default: str) -> Callable[[Command], Command]:
    """--cache and --cache-limit, as `cache`; `what` is kept, by `default` in the place it names."""

    def add(command: Command) -> Command:
        folder = click.option(
            "--cache",
            type=path_type,
            help=f"Folder for {what}, to share among runs.  [default: {default}]",
        )
        limit = click.option(
            "--cache-limit",
            type=click.FloatRange(0),
            default=20.0,
            help="Of decoded pictures, in GB; 0: none are kept.",
        )
        return folder(limit(_gathered(command, Cache, "cache")))

    return add


def request_options(preset: str) -> Callable[[Command], Command]:
    """What `trainer fit` and `trainer tune` fit, as `request`."""

    def add(command: Command) -> Command:
        options = (
            click.option(
                "--data", type=path_type, required=True, help="Class folders, or a CSV manifest."
            ),
            click.option("--preset", default=preset, help="A preset's name, or a .toml file."),
            click.option("--sample", type=float, help="Fraction of the data to use.  [preset]"),
            click.option("--encoder-weights", help="default, none, or a local file."),
            click.option("--workers", type=int, help="Processes that load pictures; 0: none."),
            click.option("--seed", type=int),
            click.option(
                "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting."
            ),
        )
        command = _gathered(command, Request, "request")
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _gathered(command: Command, kind: type[Any], name: str) -> Command:
    """`command` called with one `kind` as `name`, instead of each of its fields."""

    @functools.wraps(command)
    def gathering(*args: Any, **values: Any) -> Any:
        own = {field.name: values.pop(field.name) for field in fields(kind)}
        return command(*args, **values, **{name: kind(**own)})

    return gathering
