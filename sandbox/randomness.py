"""Random streams and identifiers, each a pure function of the seed.

Lives here: one generator per (seed, purpose, chunk, month), so that one knob does not disturb what another draws, and
bijective mixing that turns small integers into vendors' identifiers. Must not live here: any knowledge of the company.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]

_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_MONTH_BITS, _ORDINAL_BITS = 10, 22


def stream(seed: int, purpose: str, chunk: int = 0, month: int = 0) -> np.random.Generator:
    """A generator of its own for this purpose, chunk of accounts and month (0 is the company's first month)."""
    words = [seed, zlib.crc32(purpose.encode()), chunk, month + 1_000]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def mix(values: Keys) -> Keys:
    """Scramble 64-bit keys one to one: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def key(kind: str, account: Ints, month: Ints | int = 0, ordinal: Ints | int = 0, seed: int = 0) -> Keys:
    """One scrambled 64-bit key per row: account below 2**26, month below 2**10, ordinal below 2**22.

    Rows of one kind never share a key. Rows of two kinds share one with a probability of about rows**2 / 2**65.
    """
    packed = (
        (account.astype(np.uint64) << np.uint64(_MONTH_BITS + _ORDINAL_BITS))
        | (np.asarray(month, dtype=np.uint64) << np.uint64(_ORDINAL_BITS))
        | np.asarray(ordinal, dtype=np.uint64)
    )
    salt = np.random.SeedSequence([seed, zlib.crc32(kind.encode())]).generate_state(1, np.uint64)[0]
    return mix(packed ^ salt)


def uniform(keys: Keys, purpose: str) -> Floats:
    """A number in [0, 1) that depends on nothing but the row's key and the purpose."""
    salt = np.uint64(zlib.crc32(purpose.encode()) + (1 << 40))
    return np.asarray((mix(keys ^ salt) >> np.uint64(11)).astype(np.float64) / float(1 << 53), dtype=np.float64)


def hex_ids(prefix: str, keys: Keys) -> pa.Array:
    """Identifiers such as `cus_00ff...`: the prefix and 16 hexadecimal digits, built without a loop over rows."""
    count, width = len(keys), len(prefix) + 16
    octets = keys.astype(">u8").view(np.uint8).reshape(count, 8)
    text = np.empty((count, width), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), dtype=np.uint8)
    text[:, len(prefix) :: 2] = _HEX[octets >> 4]
    text[:, len(prefix) + 1 :: 2] = _HEX[octets & 15]
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))


def digit_ids(kind: str, values: Ints, bits: int, seed: int) -> Ints:
    """Identifiers of digits only, all of one length: a bijection on `bits` bits, lifted above a power of ten."""
    mask = np.int64((1 << bits) - 1)
    salt = np.int64(int(np.random.SeedSequence([seed, zlib.crc32(kind.encode())]).generate_state(1)[0]) & int(mask))
    base = np.int64(10 ** len(str(1 << bits)))
    with np.errstate(over="ignore"):
        return np.asarray((((values ^ salt) * np.int64(0x9E3779B1)) & mask) + base, dtype=np.int64)


def pick(words: list[Any] | tuple[Any, ...], index: Ints) -> pa.Array:
    """The words at these positions, as an Arrow array."""
    return pa.array(words).take(pa.array(index))
