"""The SDK: submit and follow runs, reach models and endpoints, over HTTP; sync and async on one core."""

from __future__ import annotations

from millrace.client.async_client import AsyncClient
from millrace.client.client import Client
from millrace.client.pipelines import Pipeline

__all__ = ["AsyncClient", "Client", "Pipeline"]
