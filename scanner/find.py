"""Which files are to be scanned: roots to a stream of `ImageRef`, in a stable order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from scanner.errors import ImgscanError, UsageError
from scanner.file_list import find_listed
from scanner.opening import failed_to_open, open_regular
from scanner.options.walk import WalkOptions
from scanner.roots import Met, Root, look_up
from scanner.rules import DEFAULT_RULES, WalkCounts, WalkRules
from scanner.spool import Spool
from scanner.types import Failed, ImageRef
from scanner.walk import Walker

__all__ = ["WalkCounts", "WalkRules", "failed_to_open", "find_all", "find_images", "open_regular"]


def find_images(
    roots: Sequence[Path],
    counts: WalkCounts | None = None,
    rules: WalkRules = DEFAULT_RULES,
    spool: Spool | None = None,
) -> Iterator[ImageRef | Failed]:
    """The pictures under `roots`, each file once, depth first, names in the order of their bytes.

    A root may be a folder, or a file, which then gets a row whatever it is. A root that is
    itself a link is followed, hidden or not. `rules` say which of the files met in folders
    count; `counts` then has how many did not, and why. A root that does not exist, a folder that
    cannot be listed, and a file that cannot be opened to see what it is, are each a `Failed`.
    With `rules.archives`, pictures in compressed tar files wait in the `spool` until released.

    Raises UsageError, before anything is scanned, if all roots are missing or nothing to scan,
    and for patterns that are none.
    """
    looked_up = [look_up(root) for root in roots]
    good = [root for root in looked_up if isinstance(root, Root)]
    if looked_up and not good:
        first = looked_up[0]
        assert isinstance(first, Failed)
        others = f" (nor can the other {len(roots) - 1} be scanned)" if len(roots) > 1 else ""
        raise UsageError(f"{first.ref.path}: {first.detail}{others}")
    met = Met(good, every_folder=rules.follow_symlinks)
    return _find(looked_up, Walker(rules, counts or WalkCounts(), met, spool))


def find_all(
    roots: Sequence[Path],
    walk: WalkOptions,
    counts: WalkCounts | None = None,
    spool: Spool | None = None,
) -> Iterator[ImageRef | Failed]:
    """What the command line names: the pictures under `roots`, then the files of a list.

    Raises UsageError as `find_images()` and `find_listed()` do.
    """
    counts = counts or WalkCounts()
    found = find_images(roots, counts, walk.rules, spool)
    if walk.files_from is None:
        return found
    listed = find_listed(
        walk.files_from, null=walk.null, counts=counts, rules=walk.rules, spool=spool
    )
    return chain(found, listed)


def count_all(roots: Sequence[Path], walk: WalkOptions, stop: Callable[[], bool]) -> int | None:
    """How many files a scan will have at least; None if `stop()` said so, or nobody can know.

    By a walk that opens no file: those that only their content tells from others are not counted.
    """
    if not walk.repeatable:
        return None
    total = 0
    try:
        for _ in find_all(roots, replace(walk, rules=replace(walk.rules, by_content=False))):
            total += 1
            if stop():
                return None
    except ImgscanError:  # a root has gone meanwhile: the scan itself will say so
        return None
    return total


def _find(roots: Sequence[Root | Failed], walker: Walker) -> Iterator[ImageRef | Failed]:
    for root in roots:
        if isinstance(root, Failed):
            yield root
        else:
            yield from walker.walk(root) if root.is_folder else walker.named(root)
