"""The journal: results kept from scan to scan, scans to look at again, and people's reviews.

docs/journal.md says what is kept and when it is trusted.
"""

from __future__ import annotations

from scanner.journal.database import JournalError
from scanner.journal.memory import JournalContents, JournalMemory
from scanner.journal.pages import FolderCount, Query, Row, Sort
from scanner.journal.pipeline import Pipeline, pipeline_of
from scanner.journal.reviews import Asked, Decision, Review, ReviewEvent
from scanner.journal.scans import ScanInfo, ScanRecorder
from scanner.journal.session import NoSession, Session, open_session
from scanner.journal.store import Journal, default_journal_path, open_default_journal

__all__ = [
    "Asked",
    "Decision",
    "FolderCount",
    "Journal",
    "JournalContents",
    "JournalError",
    "JournalMemory",
    "NoSession",
    "Pipeline",
    "Query",
    "Review",
    "ReviewEvent",
    "Row",
    "ScanInfo",
    "ScanRecorder",
    "Session",
    "Sort",
    "default_journal_path",
    "open_default_journal",
    "open_session",
    "pipeline_of",
]
