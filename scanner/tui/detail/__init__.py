"""The detail panel of the triage screen: `DetailPanel.show(item)`."""

from __future__ import annotations

from scanner.tui.detail.panel import DetailPanel

__all__ = ["DetailPanel"]
