"""Which of millrace's extras are installed here, by looking for their modules without importing any."""

from __future__ import annotations

import importlib.util

EXTRAS = {
    "cleaning": ("pyarrow", "numpy"),
    "text": ("ftfy", "numba", "py3langid"),
    "media": ("PIL", "soundfile", "soxr"),
    "pii": ("numba", "phonenumbers", "stdnum", "cryptography"),
    "ner": ("presidio_analyzer",),
    "audit": ("sklearn", "cleanlab"),
    "tokenize": ("tokenizers",),
    "training": ("torch", "safetensors", "onnx", "onnxscript"),
    "evaluation": ("onnxruntime",),
    "optimization": ("onnx", "onnxruntime", "openvino"),
    "deployment": ("onnxruntime", "openvino", "orjson", "uvicorn"),
    "gateway": ("fastapi", "uvicorn"),
    "postgres": ("psycopg",),
}
"""Modules that each extra brings."""


def missing_of(extra: str) -> list[str]:
    """Modules of an extra that are not installed here."""
    return [module for module in EXTRAS[extra] if importlib.util.find_spec(module) is None]
