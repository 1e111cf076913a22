"""Rows as CSV (RFC 4180), in cells that no spreadsheet runs."""

from __future__ import annotations

from scanner.report.cells import encode_cell
from scanner.report.rows import COLUMNS, Row, Value

HEADER = ",".join(COLUMNS) + "\r\n"


def line(row: Row) -> str:
    """The record of one file, with its line break."""
    return ",".join(_quoted(_text(value)) for value in row) + "\r\n"


def _text(value: Value) -> str:
    match value:
        case None:
            return ""
        case tuple():
            return " ".join(value)
        case float():
            return repr(value)
        case _:
            return str(value)


def _quoted(text: str) -> str:
    cell = encode_cell(text)
    # RFC 4180 asks for quotes around commas and quotes. Where a comma is the decimal sign,
    # spreadsheets split at semicolons instead, and `a;=1+1` unquoted would be a formula.
    if any(mark in cell for mark in ',";|') or cell != cell.strip():
        return '"' + cell.replace('"', '""') + '"'
    return cell
