"""Completion in the filter bar, by folders and tags of the list."""

from __future__ import annotations

import asyncio
import re

from textual.suggester import Suggester

from scanner.errors import ImgscanError
from scanner.journal import Journal
from scanner.tui.filters import complete
from scanner.tui.triage import Triage

_TAG = re.compile(r"(^|\s)(tag|t):\S+$", re.IGNORECASE)


class FilterSuggester(Suggester):
    """Completion of the filter's last word."""

    def __init__(self, triage: Triage, reader: Journal) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._triage = triage
        self._reader = reader

    async def get_suggestion(self, value: str) -> str | None:
        """What → would complete `value` to."""
        tags: list[str] = []
        if _TAG.search(value):
            try:
                tags = await asyncio.to_thread(self._reader.pages.tags)
            except ImgscanError:
                return None  # whatever is wrong with the journal is told where it matters
        folders = (str(path) for path in self._triage.listing.folders.values())
        return complete(value, folders, tags)
