"""What opens doors by itself: keys of known makes, JSON web tokens, private keys; and addresses of crypto-currencies."""

from __future__ import annotations

import base64
import binascii
import json

from stdnum import bitcoin

from millrace_cleaning.steps.pii.prefilter import KEY, TOKEN
from millrace_cleaning.steps.pii.settings import PiiConfig
from millrace_cleaning.steps.pii.shapes import Group, Shape, Span, always

_MAKES = "|".join(
    (
        r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",  # AWS
        r"gh[pousr]_[A-Za-z0-9]{36,255}", r"github_pat_[A-Za-z0-9_]{22,255}", r"glpat-[A-Za-z0-9_-]{20,64}",
        r"glptt-[0-9a-f]{40}", r"do[opr]_v1_[0-9a-f]{64}", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",  # DigitalOcean, Shopify
        r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",  # Slack
        r"AIza[A-Za-z0-9_-]{35}", r"GOCSPX-[A-Za-z0-9_-]{28}",  # Google
        r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,250}",  # Stripe
        r"npm_[A-Za-z0-9]{36}", r"pypi-[A-Za-z0-9_-]{50,250}", r"hf_[A-Za-z0-9]{30,64}",
        r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # SendGrid
    )
)  # fmt: skip
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32M = 0x2BC830A3


def _mixed(text: str, span: Span, config: PiiConfig) -> Span | None:
    """Keys that begin with sk- have digits and capitals; names of packages that do have not."""
    del config
    key = text[slice(*span)]
    return span if any(c.isdigit() for c in key) and any(c.isupper() for c in key) else None


def _web_token(text: str, span: Span, config: PiiConfig) -> Span | None:
    del config
    head = text[slice(*span)].partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return None
    return span if isinstance(header, dict) and "alg" in header else None


def _coin(text: str, span: Span, config: PiiConfig) -> Span | None:
    del config
    address = text[slice(*span)]
    if address.startswith("0x"):
        return span if len(set(address[2:].lower())) > 2 else None  # an address of zeros is nobody's
    return span if bitcoin.is_valid(address) or _is_taproot(address) else None


def _is_taproot(address: str) -> bool:
    """Whether the checksum is that of BIP 350, which python-stdnum does not know."""
    data = [_BECH32.find(char) for char in address[3:]]
    if not address.startswith("bc1p") or min(data) < 0:
        return False
    return bitcoin.bech32_checksum([3, 3, 0, 2, 3, *data]) == _BECH32M


SECRETS = Group(
    TOKEN,
    r"(?<![A-Za-z0-9_-])(?=[A-Za-z])",
    (
        Shape("secret", rf"(?:{_MAKES})(?![A-Za-z0-9])", always),
        Shape("secret", r"sk-[A-Za-z0-9_-]{20,250}(?![A-Za-z0-9])", _mixed),
        Shape("secret", r"eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+", _web_token),
    ),
)
PRIVATE_KEYS = Group(
    KEY,
    r"(?=-----BEGIN )",
    (
        Shape(
            "secret",
            r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=:,.\s\\]|-(?!----)){0,8000}+"
            r"(?:-----END [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----)?",
            always,
        ),
    ),
)
COINS = Group(
    TOKEN,
    r"(?<![A-Za-z0-9])(?=[13b0])",
    (
        Shape(
            "crypto", r"(?:0x[0-9a-fA-F]{40}|bc1[a-z0-9]{20,87}|[13][1-9A-HJ-NP-Za-km-z]{24,34})(?![A-Za-z0-9])", _coin
        ),
    ),
)
