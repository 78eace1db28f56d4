"""The profile of a data set as a page that opens without a network."""
