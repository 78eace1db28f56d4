"""One module per subject of the API; each has a `router`."""
