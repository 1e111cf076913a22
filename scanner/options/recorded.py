"""The walk options of an earlier scan, out of what the journal keeps of them."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from scanner.errors import UsageError
from scanner.options.walk import WalkOptions, moment_of
from scanner.rules import WalkRules

_CLASSES = {"WalkOptions": WalkOptions, "WalkRules": WalkRules}
_PATHS = ("Path", "PosixPath", "WindowsPath")


def recorded_walk(selection: str | None) -> WalkOptions:
    """The options that `WalkOptions.selection` was written of; "" stands for none.

    An age (`--newer-than 7d`) counts from now, as it did then. Raises UsageError, with the remedy,
    where the same files cannot be asked for.
    """
    if selection is None:
        raise UsageError(
            "the names of this scan's files came through a pipe; give them again: "
            "imgscan --files-from FILE --tui"
        )
    if not selection:
        return WalkOptions()
    try:
        found = _value(ast.parse(selection, mode="eval").body)
    except (SyntaxError, ValueError, TypeError):
        found = None
    folder = Path.cwd()
    if isinstance(found, tuple) and len(found) == 2:
        found, folder = found
    if not isinstance(found, WalkOptions):
        raise UsageError(
            "this scan's options are not known to this version; give the folders and the "
            "options again: imgscan FOLDER --tui"
        )
    if folder != Path.cwd():
        raise UsageError(f"the names in {found.files_from} are those of {folder}; start in it")
    if found.newer_than is None:
        return found
    return replace(found, rules=replace(found.rules, newer_than_ns=moment_of(found.newer_than)))


def _value(node: ast.expr) -> Any:
    """What `repr()` wrote: constants, tuples, paths, and the dataclasses of options.

    Raises ValueError and TypeError for all else; nothing is run.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
        case ast.Tuple(elts=parts):
            return tuple(map(_value, parts))
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(path))], keywords=[]):
            if name in _PATHS:
                return Path(path)
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if name in _CLASSES:
            kind = _CLASSES[name]
            given = {each.arg: _value(each.value) for each in keywords if each.arg}
            # A scan by a version without an option was as if it had not been given.
            if given.keys() <= {field.name for field in fields(kind)}:
                return kind(**given)
    raise ValueError(ast.dump(node))
