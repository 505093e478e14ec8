"""Membership inference: arrays in, numbers out, one file an attack. No attack sees a model."""
