"""Scan folders of pictures for AI-generated ones with ONNX Runtime."""

__version__ = "0.1.0"
