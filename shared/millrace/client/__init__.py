"""The SDK: a client over HTTP, typed handles of runs, models and endpoints."""
