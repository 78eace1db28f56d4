"""Judges a model on the test split and passes or fails its gate."""
