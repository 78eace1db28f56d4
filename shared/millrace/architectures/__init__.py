"""Torch modules, one architecture a file; only training, optimization and the torch predictor import them."""
