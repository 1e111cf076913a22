"""Turn a run of the trainer into a verified bundle that the scanner reads."""
