"""Steps of a recipe: each judges or changes the rows of a batch, and accounts for every row it touched.

A family of steps is a package: its `settings.py` says what a user may ask (pydantic alone), its other modules do the work.
"""
