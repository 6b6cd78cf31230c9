"""Adaptive multi-teacher multi-level knowledge distillation in JAX."""

__version__ = "0.1.0"
