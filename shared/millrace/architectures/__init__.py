"""Torch modules, one architecture a file; only training, optimization and the torch predictor import them.

`arguments` alone imports no torch, so that a spec's arguments are checked where it is submitted.
"""
