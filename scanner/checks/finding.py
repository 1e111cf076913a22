"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# "missing" is something optional that this installation or machine does not have; "broken" is
# something that a scan as asked for needs.
State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is one line for people, `remedy` what to do about it, `facts` is for programs."""

    section: str
    name: str
    state: State
    text: str
    remedy: str | None = None
    facts: dict[str, object] = field(default_factory=dict)
