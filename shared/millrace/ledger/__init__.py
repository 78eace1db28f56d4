"""The run journal and its projections, on SQLite or PostgreSQL through one code path."""
