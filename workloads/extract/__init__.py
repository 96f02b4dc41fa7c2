"""Operator streams from models: PyTorch modules, ONNX files, and configurations of transformers."""
