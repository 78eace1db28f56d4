"""What crosses a process boundary: frozen, versioned pydantic models and nothing that does I/O."""
