"""Deployment: bundles, signing, ONNX runtime and the pure controller.

No ROS, no simulator, and no torch outside export.py.
"""
