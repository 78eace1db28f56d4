"""Peers that the benchmarks run beside Millrace, each in an environment of its own made from pinned requirements."""
