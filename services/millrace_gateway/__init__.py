"""Offers the factory over HTTP."""
