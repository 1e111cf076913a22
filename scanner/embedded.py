"""The models that come with this program, by the names that `--model` takes.

Light, for the help texts name them.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

EMBEDDED = MappingProxyType(
    {
        "fast": Path(__file__).parent / "default_model",
        "accurate": Path(__file__).parent / "accurate_model",
        "cascade": Path(__file__).parent / "cascade_model",
    }
)
# The one of them that is used unless another is asked for.
DEFAULT = "cascade"
_OTHERS = " or ".join(name for name in EMBEDDED if name != DEFAULT)
MODEL_HELP = f"{DEFAULT} (the default), {_OTHERS}, or a bundle's folder."
