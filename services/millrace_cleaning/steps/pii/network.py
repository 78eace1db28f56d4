"""Addresses in networks: of mailboxes, hosts and interfaces; and users with their passwords in URLs."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from millrace_cleaning.steps.pii.prefilter import AT, DOTS, HEX, TOKEN
from millrace_cleaning.steps.pii.settings import PiiConfig
from millrace_cleaning.steps.pii.shapes import Group, Shape, Span, is_near

_LOCAL = re.compile(r"[\w.+%'-]{1,64}\Z")
_FILE_ENDS = frozenset(
    ("png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "bmp", "css", "scss", "js", "mjs", "tsx", "jsx", "json", "html", "htm",
     "xml", "yml", "yaml", "toml", "txt", "csv", "pdf", "whl", "exe", "dll", "ini", "cfg", "lock", "log", "woff", "ttf", "wav")
)  # fmt: skip
"""What stands after the dot of `icon@2x.png`; ends that are also a country's, such as .rs, are not here."""
_VERSION = re.compile(
    r"(?<![a-z])(?:version|versions|ver|release|build|firmware|revision|rev|section|chapter|clause|oids?|see|v)[.: ]{0,3}$",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"(?<![a-z])(?:ip|ipv4|address|host|server|dns|client|from|ping|resolver|nameserver|gateway)(?![a-z])",
    re.IGNORECASE,
)
_MAX_OF_SECTION = 16
_PLACEHOLDER = re.compile(r"[$%]?\{[^}]*\}|\$\w+|\*+|\[\w*\]")
"""What stands for a password that somebody is to put there."""
_LATER_BYTES = re.compile(r"[0-9A-Fa-f]{2}[:-]\s*$")


def _email(text: str, span: Span, config: PiiConfig) -> Span | None:
    """The pattern found @ and a domain; the name is looked for backwards from there, as a search from the left is slow."""
    del config
    at, end = span
    local = _LOCAL.search(text, max(0, at - 64), at)
    if local is None or text[at + 1 : end].rpartition(".")[2].lower() in _FILE_ENDS:
        return None
    name = local[0].lstrip(".'%-+")
    if not name or (name == "git" and text[end : end + 1] in (":", "/")):  # git@host:path is an address of code
        return None
    return at - len(name), end


def _credentials(text: str, span: Span, config: PiiConfig) -> Span | None:
    del config
    _, _, password = text[slice(*span)].rpartition("@")[0].partition(":")
    return None if _PLACEHOLDER.fullmatch(password) else span


def _ipv4(text: str, span: Span, config: PiiConfig) -> Span | None:
    try:
        address = IPv4Address(text[slice(*span)])
    except AddressValueError:
        return None
    start = span[0]
    if _VERSION.search(text, max(0, start - 24), start) or text[max(0, start - 2) : start] in ("==", ">=", "<=", "~="):
        return None
    if max(address.packed) < _MAX_OF_SECTION and not is_near(text, start, _HOST):
        return None  # 5.2.1.1 numbers a section
    return span if config.private_addresses or (address.is_global and not address.is_multicast) else None


def _ipv6(text: str, span: Span, config: PiiConfig) -> Span | None:
    try:
        address = IPv6Address(text[slice(*span)])
    except AddressValueError:
        return None
    written = text[slice(*span)]
    groups = [group for group in written.split(":") if group]
    is_short = not groups or (len(groups) < 3 and len(groups[0]) < 4)
    if is_short or written.endswith("::") or max(map(len, groups)) < 3 or not any(char.isdigit() for char in written):
        return None  # layout[2::2], a network, bytes in hex, face::dead
    return span if config.private_addresses or (address.is_global and not address.is_multicast) else None


def _mac(text: str, span: Span, config: PiiConfig) -> Span | None:
    del config
    if _LATER_BYTES.search(text, max(0, span[0] - 12), span[0]):
        return None
    digits = {char for char in text[slice(*span)].lower() if char.isalnum()}
    if digits in ({"0"}, {"f"}) or (text[span[0] + 4] == "." and not digits & set("abcdef")):
        return None  # nobody's; or groups of decimal digits
    return span


_LABEL = r"[\w-]{1,63}"
MAIL = Group(
    AT,
    r"(?=@)",
    (Shape("email", rf"@(?:{_LABEL}\.){{1,8}}(?:xn--[A-Za-z0-9-]{{2,40}}|[^\W\d_]{{2,24}})(?![\w@])", _email),),
)
CREDENTIALS = Group(
    AT,
    r"(?<=://)",
    (Shape("credentials", r"[^\s/?#:@\"'<>]{0,128}:[^\s/?#@\"'<>]{1,128}@[\w.-]{1,253}", _credentials),),
)
_AFTER_NAME = (
    r"(?:(?<=[Ii][Pp]6:)|(?<=[Ii][Pp]v6:)|(?<=[G-Zg-z_][A-Fa-f]{2}:)|(?<=[G-Zg-z_][A-Fa-f]:)|(?<=[G-Zg-z_]:))(?!:)"
)
"""After a field's name and a colon: `addr:2001:...`; the name's last letters may be hex digits."""
IPV4 = Group(
    DOTS,
    r"(?<![A-Za-z0-9_-])(?<![0-9]\.)(?=[0-9])",
    (Shape("ipv4", r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9_-])(?!\.[A-Za-z0-9])", _ipv4),),
)
IPV6 = Group(
    HEX,
    rf"(?:{_AFTER_NAME}|(?<![A-Za-z0-9:.]))(?=[0-9A-Fa-f:])",
    (Shape("ipv6", r"(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,39}(?:(?:\.[0-9]{1,3}){3})?(?![A-Za-z0-9:])", _ipv6),),
)
MAC = Group(
    HEX | TOKEN,
    r"(?<![A-Za-z0-9])(?<![0-9A-Fa-f:-][0-9A-Fa-f]{2}[:-])(?=[0-9A-Fa-f]{2})",
    (
        Shape(
            "mac",
            r"(?:[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}"
            r"|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})(?![A-Za-z0-9])(?![:.-][0-9A-Fa-f])",
            _mac,
        ),
    ),
)
