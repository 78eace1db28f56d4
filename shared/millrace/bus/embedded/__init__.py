"""A kombu transport over SQLite files in one directory: the broker of a factory that has no server."""
