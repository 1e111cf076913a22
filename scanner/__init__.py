"""Scan folders of pictures for AI-generated ones with ONNX Runtime."""

import os

__version__ = "0.1.0"

# ONNX Runtime (1.31) keeps a device's number in the user's cache and reports to its maker, and
# reads this once, when it is loaded. Who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
