"""The last line, two where it is narrow: the keys that are needed most, each also to be clicked."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from scanner.tui import keys


class Hints(Static):
    """Drawn once: Textual's own Footer is made anew whenever another widget has the focus."""

    DEFAULT_CSS = """
    Hints {
        height: auto; max-height: 2;
        background: $footer-background; color: $footer-foreground;
    }
    """

    def __init__(self) -> None:
        super().__init__(hints())


def hints() -> Content:
    """Keys and words, of `keys.GROUPS` those that have a word."""
    parts = []
    for _, members in keys.GROUPS:
        for key in members:
            if not key.footer:
                continue
            action = key.action if key.action.startswith("app.") else f"screen.{key.action}"
            name = keys.shown(key.keys.partition(",")[0]).replace("Ctrl+", "^").lower()
            click = f"@click={action}"
            parts.append(
                Content.from_markup(f"[$footer-key-foreground bold {click}]{name}[/] ")
                + Content.from_markup(f"[{click}]{key.footer}[/]")
            )
    return Content(" ").join(parts)
