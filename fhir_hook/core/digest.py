"""SHA-256 (FIPS 180-4) without `hashlib`, whose import loads OpenSSL and costs the hot path 2 ms."""

from __future__ import annotations

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found, unused-ignore]  # Python >= 3.12
except ImportError:
    from _sha256 import sha256 as _sha256  # type: ignore[import-not-found, unused-ignore]


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    digest: str = _sha256(data).hexdigest()
    return digest
