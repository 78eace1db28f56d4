"""Data sets as products: read, compare, sample, explain and export what cleaning made. Needs pyarrow and numpy."""
