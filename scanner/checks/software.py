"""Decoders and the journal."""

from __future__ import annotations

import importlib
import os
import sqlite3
from contextlib import closing
from importlib import metadata
from pathlib import Path

import PIL
from PIL import features

from scanner.checks.finding import Finding, State
from scanner.journal import default_journal_path, schema

# The format, what Pillow calls its library, and what it is.
_LIBRARIES = (
    ("JPEG", "libjpeg_turbo", "libjpeg-turbo"),
    ("PNG", "zlib", "zlib"),
    ("WebP", "webp", "libwebp"),
    ("TIFF", "libtiff", "libtiff"),
    ("AVIF", "avif", "libavif"),
    ("JPEG 2000", "jpg_2000", "OpenJPEG"),
)


def decoders() -> list[Finding]:
    """Each format with its library and version, and the optional ones."""
    present, absent = {}, []
    for kind, name, library in _LIBRARIES:
        version = features.version(name)
        if version is None and name == "libjpeg_turbo":
            name, library = "jpg", "libjpeg"
            version = features.version(name)
        if version is None:
            absent.append(kind)
        else:
            present[kind] = f"{library} {version}"
    text = ", ".join(f"{kind} ({library})" for kind, library in present.items())
    facts: dict[str, object] = {"libraries": present, "missing": absent, "pillow": PIL.__version__}
    pillow = f"Pillow {PIL.__version__}: {text}; GIF, BMP, PPM, ICO"
    if absent:
        pillow += f"; without {', '.join(absent)}"
        remedy = "install Pillow's own wheel: pip install --force-reinstall pillow"
        first = Finding("Decoders", "Pillow", "broken", pillow, remedy, facts)
    else:
        first = Finding("Decoders", "Pillow", "ok", pillow, facts=facts)
    return [first, _optional("HEIF", "pi_heif", "pi-heif"), _optional("RAW", "rawpy", "rawpy")]


def _optional(kind: str, module: str, package: str) -> Finding:
    remedy = "pip install pi-heif" if kind == "HEIF" else "pip install 'imgscan[raw]'"
    try:
        loaded = importlib.import_module(module)
        version = metadata.version(package)
    except (ImportError, OSError) as error:  # or the library that it wraps cannot be loaded
        text = f"{package} is not installed"
        if not isinstance(error, ModuleNotFoundError):
            text = f"{package} cannot be loaded: {error}"
        if kind == "RAW":
            text += "; raw files without a preview inside are not decoded"
        return Finding("Decoders", kind, "missing", text, remedy, {"present": False})
    if kind == "HEIF":
        library = f"libheif {loaded.libheif_version()}"
    else:
        library = "LibRaw " + ".".join(map(str, loaded.libraw_version))
    facts: dict[str, object] = {"present": True, "library": library, "version": version}
    return Finding("Decoders", kind, "ok", f"{package} {version} ({library})", facts=facts)


def journal() -> Finding:
    """The journal at its default place; nothing is made or changed."""
    path = default_journal_path()
    facts: dict[str, object] = {"path": str(path), "exists": path.exists()}
    remedy = f"make {path.parent} writable, or give another --journal"
    where = path if path.exists() else next(p for p in path.parents if p.exists())
    facts["writable"] = writable = os.access(where, os.W_OK)
    state: State = "ok" if writable else "missing"
    if not path.exists():
        text = f"{path}, not there yet"
        text += "" if writable else f"; {where} cannot be written"
        return Finding("Journal", "Place", state, text, None if writable else remedy, facts)
    try:
        # A file name in a URI: what has a meaning there is escaped.
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as db:
            facts["schema"] = version = schema.check(db)
    except (sqlite3.Error, schema.ForeignError, schema.NewerError) as error:
        kind = {"ForeignError": "it is no journal", "NewerError": "it is of a newer imgscan"}
        text = f"{path}: {kind.get(type(error).__name__, str(error))}"
        return Finding("Journal", "Place", "missing", text, "give another --journal", facts)
    text = f"{path}, schema {version} of {schema.VERSION}"
    text += ", writable" if writable else ", not writable"
    return Finding(
        "Journal",
        "Place",
        "ok" if writable else "missing",
        text,
        None if writable else remedy,
        facts,
    )
