"""A whole factory in one process, and the tools to test pipelines and stages; for users, too."""
