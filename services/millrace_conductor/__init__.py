"""Turns events into commands: the lifecycle of every run."""
