"""Turn a run of the trainer into a verified bundle that the scanner reads."""

import scanner as scanner  # before any onnxruntime: it says that nothing is to be reported
