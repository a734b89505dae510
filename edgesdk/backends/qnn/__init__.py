"""Qualcomm's Hexagon processor through the QNN execution provider, a plugin of ONNX Runtime."""
