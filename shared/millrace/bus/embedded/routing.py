"""Which queues a routing key reaches, by the rules of AMQP's exchanges."""

from __future__ import annotations

from functools import lru_cache

EXCHANGE_TYPES = frozenset({"direct", "topic", "fanout"})


def matches(exchange_type: str, pattern: str, routing_key: str) -> bool:
    """Whether a message with this key reaches a queue that is bound with this pattern."""
    if exchange_type == "fanout":
        return True
    if exchange_type == "topic":
        return _topic_matches(pattern, routing_key)
    return pattern == routing_key


@lru_cache(maxsize=4096)
def _topic_matches(pattern: str, routing_key: str) -> bool:
    """Words are separated by dots; `*` is exactly one word, `#` any number of them, also none."""
    return _words_match(pattern.split("."), routing_key.split("."))


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return _words_match(pattern[1:], words) or (bool(words) and _words_match(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and _words_match(pattern[1:], words[1:])
