"""Turns raw files into a data set: typed, deduplicated, split without leaks."""
