"""The training pipeline: one runnable file per step."""
