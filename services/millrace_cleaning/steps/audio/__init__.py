"""Steps over columns of audio: what decodes, how loud, how long, and one form for all."""
