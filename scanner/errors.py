"""The one exception that the command lines turn into a message."""

from __future__ import annotations


class ImgscanError(Exception):
    """A problem the user can mend: the message names the file and the remedy.

    Anything else that escapes is a defect of this program.
    """


class UsageError(ImgscanError):
    """The request itself is wrong: an option, a path or a combination of them."""


class BundleError(ImgscanError):
    """A model bundle is missing, damaged, foreign or unsafe."""
