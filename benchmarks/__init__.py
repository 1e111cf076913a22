"""Measurements whose figures the documentation states; each is run as `python -m benchmarks.X`."""

import scanner as scanner  # before any onnxruntime: it says that nothing is to be reported
