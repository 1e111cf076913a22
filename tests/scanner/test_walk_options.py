"""Sizes and moments on the command line, and what is refused."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from scanner.errors import UsageError
from scanner.options.walk import WalkOptions, walk_options
from scanner.rules import WalkRules


def chosen(*args: str) -> WalkOptions:
    got: list[WalkOptions] = []

    @click.command()
    @walk_options
    def command(walk: WalkOptions) -> None:
        got.append(walk)

    result = CliRunner().invoke(command, args, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return got[0]


def test_the_defaults_are_those_of_the_rules() -> None:
    assert chosen() == WalkOptions(WalkRules(), None, False)


def test_each_option_has_its_rule() -> None:
    args = ["--hidden", "--follow-symlinks", "--one-file-system", "--no-ignore-files"]
    args += [
        "--include",
        "*.png",
        "--include",
        "*.jpg",
        "--exclude",
        "x/",
        "--files-from",
        "-",
        "-0",
    ]
    rules = WalkRules(
        hidden=True,
        follow_symlinks=True,
        one_file_system=True,
        ignore_files=False,
        include=("*.png", "*.jpg"),
        exclude=("x/",),
    )
    assert chosen(*args) == WalkOptions(rules, Path("-"), True)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("200", 200), ("2K", 2048), ("1.5k", 1536), ("3M", 3 * 2**20), ("1G", 2**30)],
)
def test_sizes_are_in_bytes_or_units_of_1024(text: str, size: int) -> None:
    assert chosen("--min-size", text).rules.min_bytes == size
    assert chosen("--max-size", text).rules.max_bytes == size


@pytest.mark.parametrize(
    "args",
    [
        ["--min-size", "much"],
        ["--min-size", "-1"],
        ["--max-size", "1KB"],
        ["--newer-than", "yesterday"],
        ["--newer-than", "7y"],
        ["--newer-than", ""],
        ["--newer-than", "2024-13-01"],
    ],
)
def test_what_is_no_size_or_moment_is_refused(args: list[str]) -> None:
    with pytest.raises(click.UsageError):
        chosen(*args)


@pytest.mark.parametrize(
    "args", [["--null"], ["--files-from", ""], ["--min-size", "2", "--max-size", "1"]]
)
def test_what_cannot_be_meant_is_refused(args: list[str]) -> None:
    with pytest.raises(UsageError):
        chosen(*args)


def test_a_moment_is_a_date_an_age_or_the_time_of_a_file(tmp_path: Path) -> None:
    def moment(text: str) -> int:
        nanoseconds = chosen("--newer-than", text).rules.newer_than_ns
        assert nanoseconds is not None
        return nanoseconds

    assert moment("2024-01-31T10:00:00+00:00") == 1_706_695_200 * 10**9
    assert moment("2024-01-31") == int(datetime(2024, 1, 31).timestamp()) * 10**9  # local
    assert abs(time.time_ns() - moment("2h") - 7200 * 10**9) < 60 * 10**9
    file = tmp_path / "file"
    file.touch()
    os.utime(file, ns=(5, 1234567))
    assert moment(str(file)) == 1234567
