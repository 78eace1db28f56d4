"""Steps about text: repair, language, and the quality rules of Gopher, C4 and FineWeb over one split into words and lines."""
