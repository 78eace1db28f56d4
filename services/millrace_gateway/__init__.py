"""The HTTP API: submit and follow runs, upload data, download artifacts, reach endpoints."""
