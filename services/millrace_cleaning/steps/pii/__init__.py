"""Personal data in text: found by what it looks like and proved by its checksum, then masked, dropped or tokenized."""
