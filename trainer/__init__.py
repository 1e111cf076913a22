"""Fit, tune and judge the autoencoder-classifier that `imgscan` scans with."""
