"""Serves releases: the deploy and predict stages and the model server."""
