"""Makes smaller, faster variants of a model and chooses one that keeps its accuracy."""
