"""Keys and addresses of makes that the first set has not."""

from __future__ import annotations

import hashlib
import string
from random import Random

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BASE_58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def crypto(random: Random) -> str:
    """Bitcoin by BIP 173 and BIP 350 or as a script's, and Ethereum in mixed case."""
    make = random.randrange(4)
    if make == 0:
        return segwit(0, random.randbytes(20))
    if make == 1:
        return segwit(1, random.randbytes(32))
    if make == 2:
        return "0x" + "".join(random.choice("0123456789ABCDEF") for _ in range(40))
    raw = b"\x05" + random.randbytes(20)
    raw += hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4]
    value, text = int.from_bytes(raw, "big"), ""
    while value:
        value, rest = divmod(value, 58)
        text = BASE_58[rest] + text
    return text


def segwit(version: int, program: bytes) -> str:
    """The address of a witness program."""
    bits = "".join(f"{byte:08b}" for byte in program)
    bits += "0" * (-len(bits) % 5)
    data = [version, *(int(bits[i : i + 5], 2) for i in range(0, len(bits), 5))]
    prefix = [ord(c) >> 5 for c in "bc"] + [0] + [ord(c) & 31 for c in "bc"]
    check = _polymod([*prefix, *data, *[0] * 6]) ^ (0x2BC830A3 if version else 1)
    data += [(check >> 5 * (5 - i)) & 31 for i in range(6)]
    return "bc1" + "".join(ALPHABET[d] for d in data)


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if (top >> i) & 1 else 0
    return check


def secret(random: Random) -> str:
    def some(num: int, of: str = string.ascii_letters + string.digits) -> str:
        return "".join(random.choice(of) for _ in range(num))

    return random.choice(
        (
            "ASIA" + some(16, string.ascii_uppercase + "234567"), "github_pat_" + some(22) + "_" + some(59), "gho_" + some(36),
            "rk_live_" + some(24), "sk_test_" + some(24), "npm_" + some(36), "SG." + some(22) + "." + some(43),
            "sk-proj-" + some(48), "sk-ant-api03-" + some(93) + "AA", "GOCSPX-" + some(28),
            "dop_v1_" + some(64, "0123456789abcdef"),
            "xoxp-" + some(12, string.digits) + "-" + some(12, string.digits) + "-" + some(32, "0123456789abcdef"),
            "pypi-AgEIcHlwaS5vcmc" + some(70), "glptt-" + some(40, "0123456789abcdef"), "shpat_" + some(32, "0123456789abcdef"),
            "-----BEGIN RSA PRIVATE KEY-----\n" + some(64) + "\n" + some(30) + "==\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n" + some(70) + "\n" + some(44) + "\n-----END OPENSSH PRIVATE KEY-----",
        )
    )  # fmt: skip
