"""Every key of the list, in one place: the bindings, the help screen and the palette are of it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True, slots=True)
class Key:
    """Keys (separated by commas) that do `action`; `footer` is the hint's word, "" for none."""

    keys: str
    action: str
    what: str
    footer: str = ""


GROUPS: tuple[tuple[str, tuple[Key, ...]], ...] = (
    (
        "Decide (the row, or all that is selected; on a folder, all of its listed files)",
        (
            Key("f", "decide('fake')", "It is fake", "fake"),
            Key("r", "decide('real')", "It is real", "real"),
            Key("u", "decide('unsure')", "Unsure: somebody should look again", "unsure"),
            Key("s", "decide('skip')", "Skip: seen, not to be decided", "skip"),
            Key("e", "annotate", "Note and tags"),
            Key("ctrl+z,backspace", "undo", "Undo the last decision", "undo"),
            Key("ctrl+y,y", "redo", "Redo it"),
        ),
    ),
    (
        "Go",
        (
            Key("n", "next(1)", "Next without a decision", "next"),
            Key("N", "next(-1)", "Previous without a decision"),
            Key("d", "doubtful", "The most doubtful: nearest to the threshold"),
            Key("g", "groups", "Folders with the density of suspects, and back", "folders"),
            Key("slash", "filter", "Filter the list", "filter"),
            Key("escape", "back", "Clear selection, then filter; leave folders"),
        ),
    ),
    (
        "Select",
        (
            Key("space", "select", "Select or deselect the row"),
            Key("v", "select_range", "Select from the last selected row to here"),
            Key("ctrl+a", "select_all", "Select all that is listed"),
        ),
    ),
    (
        "Sort (again: the other way round; or click a title)",
        (
            Key("1", "sort('p')", "By confidence: from the surest fake to the surest real"),
            Key("2", "sort('verdict')", "By verdict"),
            Key("3", "sort('name')", "By name"),
            Key("4", "sort('folder')", "By folder"),
            Key("5", "sort('size')", "By size"),
            Key("6", "sort('review')", "By decision"),
            Key("7", "sort('doubt')", "By doubt: nearest to the threshold first"),
            Key("0", "sort('scan')", "In the order of the scan"),
        ),
    ),
    (
        "Files",
        (
            Key("o", "open", "Open in the system's viewer"),
            Key("O", "reveal", "Show in the file manager"),
            Key("c", "copy_path", "Copy the path (also over ssh)"),
            Key("w", "save_report", "Save the listed files as a report"),
            Key("l", "save_manifest", "Save decisions as a labelled manifest for trainer fit"),
            Key("M", "transfer('move')", "Move the selected files, or this one"),
            Key("C", "transfer('copy')", "Copy the selected files, or this one"),
            Key("L", "transfers", "What was moved and copied; undo it"),
        ),
    ),
    (
        "Scan",
        (
            Key("p", "pause", "Pause and go on"),
            Key("X", "cancel", "Cancel the scan; what there is stays"),
            Key("R", "scan", "Scan again; what is known is not decoded again"),
            Key("S", "scans", "Another scan of this journal"),
        ),
    ),
    (
        "Picture",
        (
            Key("i", "panel", "Show or hide the picture's panel"),
            Key("m", "panel_map", "Another map: reconstruction, error, attention"),
            Key("z,plus", "panel_zoom(1)", "Nearer"),
            Key("x,minus", "panel_zoom(-1)", "Farther"),
        ),
    ),
    (
        "imgscan",
        (
            Key("question_mark,f1", "help", "This help", "help"),
            Key("ctrl+p", "app.command_palette", "All commands by name"),
            Key("D", "dark", "Dark or light"),
            Key("q", "app.quit", "Quit; all decisions are saved already", "quit"),
        ),
    ),
)

MOVES = (
    ("↓ j  ↑ k", "One row"),
    ("PgDn PgUp", "One screen"),
    ("Home End G", "First, last"),
    ("Enter", "A folder: open it; a file: its panel"),
    ("Tab", "Between list, filter and panel; the arrows move a near picture"),
)

_SHOWN = {
    "slash": "/",
    "question_mark": "?",
    "escape": "Esc",
    "space": "Space",
    "backspace": "Backspace",
    "f1": "F1",
    "plus": "+",
    "minus": "-",
}


def bindings(*, app: bool) -> list[Binding]:
    """The bindings of the app, or those of the list."""
    return [
        Binding(key.keys, key.action, key.footer or key.what, show=bool(key.footer))
        for _, keys in GROUPS
        for key in keys
        if key.action.startswith("app.") == app
    ]


def shown(keys: str) -> str:
    """Keys as people read them."""
    names = []
    for name in keys.split(","):
        if name.startswith("ctrl+"):
            names.append("Ctrl+" + name[5:].upper())
        else:
            names.append(_SHOWN.get(name, name))
    return " ".join(names)
