"""Passwords: which ones are taken, how they are kept, how one is checked."""

from __future__ import annotations

import re
import secrets
import threading
from functools import cache
from itertools import pairwise

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from engine.errors import Refused

SHORTEST, LONGEST = 12, 256
DIFFERENT_CHARACTERS = 5
# What people make long by appending digits. Length does the rest (NIST SP 800-63B 5.1.1.2: a blocklist, no composition
# rules).
COMMON_WORDS = """
password passwort motdepasse contrasena welcome welcometo letmein qwerty qwertyuiop qwertzuiop azertyuiop asdfghjkl
iloveyou administrator admin changeme changeit secret topsecret default hospital clinic workstation pediscreen
radiology radiologist radiologie pediatric paediatric pediatrics paediatrics football baseball sunshine princess
superman starwars monkey dragon summer winter spring autumn
"""
COMMON = frozenset(COMMON_WORDS.split())
ONE_TIME_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no 0/o, 1/i/l: it is read aloud and typed

_hasher = PasswordHasher()  # argon2id, 64 MiB, 3 passes, 4 lanes (RFC 9106's second choice)
_at_a_time = threading.BoundedSemaphore(2)  # each takes 64 MiB; attempts must not take the machine's memory


def check_rules(password: str, username: str) -> None:
    """Raises Refused, naming the rule."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Refused("password", f"A password has {SHORTEST} to {LONGEST} characters; this one has {len(password)}.")
    lower = password.casefold()
    if len(set(lower)) < DIFFERENT_CHARACTERS:
        raise Refused("password", f"A password has at least {DIFFERENT_CHARACTERS} different characters.")
    if username.casefold() in lower:
        raise Refused("password", "The password contains the user name. Choose another.")
    if _without_padding(lower) in COMMON or _is_a_run(lower):
        raise Refused("password", "This password is among the first that anybody would try. Choose another.")


def hash_of(password: str) -> str:
    with _at_a_time:
        return _hasher.hash(password)


def is_right(password_hash: str | None, password: str) -> bool:
    """Takes the same time where there is nothing to compare with (None)."""
    with _at_a_time:
        try:
            return _hasher.verify(password_hash or _of_nobody(), password) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


def one_time_password() -> str:
    """Four groups of four: about 79 bits."""
    return "-".join("".join(secrets.choice(ONE_TIME_ALPHABET) for _ in range(4)) for _ in range(4))


@cache
def _of_nobody() -> str:
    return _hasher.hash(secrets.token_hex(16))


def _without_padding(text: str) -> str:
    """The word at the core of "password2026!" and of "P@ssw0rd...1"."""
    core = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", text).translate(str.maketrans("@$01345", "asoieas"))
    return re.sub(r"[^a-z]", "", core)


def _is_a_run(text: str) -> bool:
    """Whether it goes up or down by one all along, or repeats a short piece."""
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    repeats = any(text == (text[:size] * len(text))[: len(text)] for size in range(1, len(text) // 2 + 1))
    return steps <= {1, -9} or steps <= {-1, 9} or repeats
