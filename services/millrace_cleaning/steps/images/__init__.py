"""Steps over columns of images: what decodes, what is hidden in the bytes, and what looks alike."""
