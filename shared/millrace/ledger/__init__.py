"""The seam to the run journal: SQLite or PostgreSQL through one code path."""
