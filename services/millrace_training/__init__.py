"""Turns a data set into a model package."""
