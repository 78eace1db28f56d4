"""Steps over columns of tables: constraints, outliers, spellings and units."""
