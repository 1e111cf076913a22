"""Measurements whose figures the documentation states; each is run as `python -m benchmarks.X`."""
