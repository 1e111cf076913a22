"""What the model attends to in one picture: maps for people, attention and never proof."""

from __future__ import annotations

from scanner.explain.maps import (
    CAUTION,
    Explanation,
    Remade,
    explain,
    occlusion_map,
    remake,
)

__all__ = ["CAUTION", "Explanation", "Remade", "explain", "occlusion_map", "remake"]
