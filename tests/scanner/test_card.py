"""What `imgscan card` prints, and of whom."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from test_cli import imgscan

from scanner.bundle import Bundle
from scanner.embedded import EMBEDDED


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_the_card_of_each_embedded_model_is_printed_as_it_is(name: str) -> None:
    done = imgscan("card", "--model", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith((EMBEDDED[name] / "MODEL_CARD.md").read_text("utf-8"))


def test_the_default_models_card_says_where_its_stages_cards_are() -> None:
    shown = imgscan("card").stdout
    assert "`imgscan card --model fast`" in shown
    assert "`imgscan card --model accurate`" in shown


def test_a_card_cannot_steer_the_terminal(tmp_path: Path, tiny_bundle: Bundle) -> None:
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "b")
    card = bundle / "MODEL_CARD.md"
    card.write_bytes(b"# a\x1b[2Jb \xff\n")
    raw = json.loads((bundle / "bundle.json").read_text("utf-8"))
    raw["files"]["MODEL_CARD.md"] = hashlib.sha256(card.read_bytes()).hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(raw), "utf-8")
    assert imgscan("card", "--model", bundle).stdout == "# a\\x1b[2Jb \ufffd\n"


def test_a_card_that_is_not_the_bundles_own_is_not_shown(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "b")
    (bundle / "MODEL_CARD.md").write_text("# always right\n", "utf-8")
    done = imgscan("card", "--model", bundle)
    assert (done.returncode, done.stdout) == (3, "")
    assert "MODEL_CARD.md" in done.stderr
