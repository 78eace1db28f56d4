"""Tokens that who has the key can turn back: equal data of a kind have equal tokens, and a token that was altered is refused."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from millrace import errors

MIN_KEY_CHARS = 32

_TOKEN = re.compile(r"<([A-Z0-9_]{2,24}):([A-Za-z0-9_-]{22,})>")


def mask_of(kind: str) -> str:
    """What stands for any datum of the kind, such as <EMAIL>."""
    return f"<{kind.upper()}>"


class Tokens:
    """Makes tokens and turns them back, with one key.

    AES-SIV (RFC 5297) with 256-bit keys that HKDF derives; the kind is authenticated too. Being deterministic, tokens tell
    which data are equal, and nothing else.

    Raises:
        InvalidInput: The key is too short to be one.
    """

    def __init__(self, key: str) -> None:
        if len(key) < MIN_KEY_CHARS:
            raise errors.InvalidInput(
                f"The key for tokens has {len(key)} characters; at least {MIN_KEY_CHARS} are needed.",
                remedy="Make one, such as with `openssl rand -hex 32`, and keep it.",
                field="MILLRACE_PII_KEY",
            )
        self.key_id = key_id(key)
        derived = HKDF(algorithm=SHA256(), length=64, salt=None, info=b"millrace/pii/tokens/v1").derive(key.encode())
        self._cipher = AESSIV(derived)

    def token(self, text: str, kind: str) -> str:
        sealed = self._cipher.encrypt(text.encode("utf-8", "surrogateescape"), [kind.upper().encode()])
        return f"<{kind.upper()}:{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}>"

    def reveal(self, text: str) -> str:
        """Return the text with every token turned back.

        Raises:
            InvalidData: A token was made with another key, or altered.
        """
        return _TOKEN.sub(self._revealed, text)

    def _revealed(self, match: re.Match[str]) -> str:
        kind, sealed = match.groups()
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            return self._cipher.decrypt(raw, [kind.encode()]).decode("utf-8", "surrogateescape")
        except (InvalidTag, binascii.Error, ValueError):
            raise errors.InvalidData(
                f"A token of kind {kind} at character {match.start()} does not open with this key.",
                remedy=f"This key's id is {self.key_id}: give the one whose id the recipe names; or the token was altered.",
            ) from None


def reveal(text: str, *, key: str) -> str:
    """Return a text with every token turned back into what it stands for."""
    return Tokens(key).reveal(text)


def key_id(key: str) -> str:
    """Say which key it is without giving it away: 16 hexadecimal digits."""
    return hmac.new(key.encode(), b"millrace/pii/key-id/v1", hashlib.sha256).hexdigest()[:16]
