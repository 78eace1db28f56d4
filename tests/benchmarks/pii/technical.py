"""Addresses in networks, keys, and accounts of crypto-currencies."""

from __future__ import annotations

import hashlib
import string
from random import Random

from benchmarks.pii.checks import digits_of
from benchmarks.pii.people import FIRST


def ipv4(random: Random) -> str:
    first = random.choice((8, 23, 45, 52, 81, 93, 104, 151, 185, 212))
    return f"{first}.{random.randint(0, 255)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


def ipv6(random: Random) -> str:
    def group() -> str:
        return f"{random.randint(1, 0xFFFF):x}"

    head = random.choice(("2a00:1450", "2606:4700", "2a02:8108", "2620:fe"))
    full = ":".join((head, *(group() for _ in range(6))))
    return random.choice((full, f"{head}::{group()}", f"{head}:{group()}::{group()}:{group()}", full.upper()))


def mac(random: Random) -> str:
    raw = (
        f"{random.choice((0x00, 0x3C, 0xA4, 0xDC)):02x}"
        + "".join(random.choice("0123456789abcdef") for _ in range(9))
        + "e"
    )
    pairs = [raw[i : i + 2] for i in range(0, 12, 2)]
    return random.choice(
        (":".join(pairs), ":".join(pairs).upper(), "-".join(pairs).upper(), f"{raw[:4]}.{raw[4:8]}.{raw[8:]}")
    )


def crypto(random: Random) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    if random.random() < 0.4:
        return "0x" + "".join(random.choice("0123456789abcdef") for _ in range(40))
    raw = bytes((random.choice((0, 5)),)) + random.randbytes(20)
    raw += hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4]
    value, text = int.from_bytes(raw, "big"), ""
    while value:
        value, rest = divmod(value, 58)
        text = alphabet[rest] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def secret(random: Random) -> str:
    def some(num: int, of: str = string.ascii_letters + string.digits) -> str:
        return "".join(random.choice(of) for _ in range(num))

    web = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIx" + some(24) + "." + some(43)
    return random.choice(
        (
            "AKIA" + some(16, string.ascii_uppercase + "234567"), "ghp_" + some(36),
            "xoxb-" + digits_of(random, 12) + "-" + some(24),
            "AIza" + some(35), "sk_live_" + some(24), "hf_" + some(34), "glpat-" + some(20), web,
            "-----BEGIN EC PRIVATE KEY-----\n" + some(64) + "\n" + some(40) + "=\n-----END EC PRIVATE KEY-----",
        )
    )  # fmt: skip


def credentials(random: Random) -> str:
    password = random.choice(("s3cret", "Pa55word", "xK9!vb", "tr0ub4dor")) + str(random.randint(1, 99))
    return f"{random.choice(FIRST[:7])}:{password}@{random.choice(('db', 'cache', 'ftp'))}.example.com"
