"""Which of the files in a folder are scanned: the rules, and the count of what they leave out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

# Why something met on the way was left out; docs/files.md says what each means.
Cause = Literal[
    "symlink",
    "hidden",
    "ignored",
    "excluded",
    "not_included",
    "small",
    "large",
    "old",
    "special",
    "other_device",
    "met_before",
    "archive",
    "nested",
    "same_name",
]

# For people, after a count: one, several.
_WORDS: dict[Cause, tuple[str, str]] = {
    "symlink": ("symbolic link (--follow-symlinks)", "symbolic links (--follow-symlinks)"),
    "hidden": ("hidden (--hidden)", "hidden (--hidden)"),
    "ignored": ("by .imgscanignore", "by .imgscanignore"),
    "excluded": ("by --exclude", "by --exclude"),
    "not_included": ("not of --include", "not of --include"),
    "small": ("below --min-size", "below --min-size"),
    "large": ("above --max-size", "above --max-size"),
    "old": ("not --newer-than", "not --newer-than"),
    "special": ("pipe, socket or device", "pipes, sockets or devices"),
    "other_device": ("folder of another file system", "folders of other file systems"),
    "met_before": ("folder met before", "folders met before"),
    "archive": ("archive (--archives)", "archives (--archives)"),
    "nested": ("archive inside an archive", "archives inside archives"),
    "same_name": ("member of a name that came before", "members of names that came before"),
}


@dataclass(frozen=True, slots=True)
class WalkRules:
    """What is looked at in folders; the defaults are those of `imgscan`.

    `include` and `exclude` are gitignore patterns. `min_bytes` and `max_bytes` are sizes that
    are still taken; only files changed after `newer_than_ns` (nanoseconds since 1970, UTC) are.
    `archives`: pictures inside zip and tar files are scanned where they are. `by_content`: files
    without a known extension are opened, to see whether they are pictures.
    """

    follow_symlinks: bool = False
    one_file_system: bool = False
    hidden: bool = False
    ignore_files: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_bytes: int | None = None
    max_bytes: int | None = None
    newer_than_ns: int | None = None
    archives: bool = False
    # Of how the walk goes, not of what was asked for: no part of how lists are told apart.
    by_content: bool = field(default=True, repr=False)

    @property
    def ask_facts(self) -> bool:
        """Whether a file's size or time must be known."""
        return not (self.min_bytes is self.max_bytes is self.newer_than_ns is None)

    def size_cause(self, size_bytes: int) -> Cause | None:
        """Why a file of this size is left out, or None."""
        if self.min_bytes is not None and size_bytes < self.min_bytes:
            return "small"
        if self.max_bytes is not None and size_bytes > self.max_bytes:
            return "large"
        return None

    def time_cause(self, mtime_ns: int) -> Cause | None:
        """Why a file last changed then is left out, or None."""
        if self.newer_than_ns is not None and mtime_ns <= self.newer_than_ns:
            return "old"
        return None


DEFAULT_RULES = WalkRules()


@dataclass(slots=True)
class WalkCounts:
    """What a walk met and left out, by cause. Filled while `find_images()` is iterated."""

    left_out: Counter[Cause] = field(default_factory=Counter)

    def describe(self) -> str:
        """One line for people, the commonest cause first; empty if nothing was left out."""
        return ", ".join(
            f"{count:,} {_WORDS[cause][count != 1]}"
            for cause, count in self.left_out.most_common()
            if count
        )
