"""Signed notes (C2SP signed-note): text, and under it the signatures of Ed25519 keys that have names.

The format's own words: a text that ends in a newline, an empty line, then one line for each signature. Keys are written
as golang.org/x/mod/sumdb/note writes them: NAME+ID+BASE64 to verify, PRIVATE+KEY+NAME+ID+BASE64 to sign.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256

ED25519 = 0x01
COSIGNATURE = 0x04  # C2SP tlog-cosignature, cosignature/v1
LONGEST_NOTE = 1_000_000
MOST_SIGNATURES = 100
_DASH = "\u2014 "


class NoteError(Exception):
    """A note or a key is not what it should be; str() is one line."""


class Signature:
    """One signature line: the key's `name` and `id` (4 bytes), and the signature itself."""

    __slots__ = ("name", "id", "signature")

    def __init__(self, name: str, id: bytes, signature: bytes) -> None:
        self.name = name
        self.id = id
        self.signature = signature

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.id + self.signature).decode()}\n"


class Verifier:
    """A public key with its name: `kind` ED25519 or COSIGNATURE, `public` its 32 bytes."""

    def __init__(self, name: str, public: bytes, kind: int = ED25519) -> None:
        self.name = checked_name(name)
        self.public = public
        self.kind = kind
        self.id = key_id(name, kind, public)

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Read NAME+ID+BASE64; raises NoteError."""
        name, _, rest = text.strip().partition("+")
        id, _, encoded = rest.partition("+")
        material = _decoded(encoded)
        if material is None or len(material) != 33 or material[0] not in (ED25519, COSIGNATURE):
            raise NoteError(f"{_shown(text)} is no verifier key: it should read NAME+ID+BASE64, of an Ed25519 key")
        verifier = cls(name, material[1:], material[0])
        if verifier.id.hex() != id:
            raise NoteError(f"{_shown(text)} is no verifier key: its id should be {verifier.id.hex()}")
        return verifier

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    def verify(self, text: str, signature: bytes) -> bool:
        """Whether `signature` is this key's under `text`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        message = text.encode()
        if self.kind == COSIGNATURE:
            if len(signature) != 72:
                return False
            message = cosigned(text, int.from_bytes(signature[:8], "big"))
            signature = signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A private key with its name; `seed` is the 32 bytes of RFC 8032."""

    def __init__(self, name: str, seed: bytes, kind: int = ED25519) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.verifier = Verifier(name, public, kind)

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Read PRIVATE+KEY+NAME+ID+BASE64; raises NoteError, which never shows the key."""
        parts = text.strip().split("+", 4)
        material = _decoded(parts[4]) if len(parts) == 5 else None
        if parts[:2] != ["PRIVATE", "KEY"] or material is None or len(material) != 33:
            raise NoteError("that is no signing key: it should read PRIVATE+KEY+NAME+ID+BASE64")
        if material[0] not in (ED25519, COSIGNATURE):
            raise NoteError("that is no signing key for Ed25519")
        signer = cls(parts[2], material[1:], material[0])
        if signer.verifier.id.hex() != parts[3]:
            raise NoteError("that is no signing key: its id does not fit the key")
        return signer

    def secret(self) -> str:
        """The key as it is kept, in one line."""
        material = base64.b64encode(bytes([self.verifier.kind]) + self._seed).decode()
        return f"PRIVATE+KEY+{self.verifier.name}+{self.verifier.id.hex()}+{material}"

    def sign(self, text: str, seconds: int = 0) -> Signature:
        """Sign a note's text; a cosignature says that the checkpoint was seen at `seconds` since the epoch."""
        if self.verifier.kind == COSIGNATURE:
            signature = seconds.to_bytes(8, "big") + self._key.sign(cosigned(text, seconds))
        else:
            signature = self._key.sign(text.encode())
        return Signature(self.verifier.name, self.verifier.id, signature)


class Note:
    """A note that was opened: its `text`, signatures that were `verified`, and those of `unknown` keys."""

    def __init__(self, text: str, verified: list[Signature], unknown: list[Signature]) -> None:
        self.text = text
        self.verified = verified
        self.unknown = unknown


def cosigned(text: str, seconds: int) -> bytes:
    """What a witness signs (C2SP tlog-cosignature, Ed25519 signed message)."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """The four bytes by which a signature names its key (C2SP signed-note, Signatures)."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def checked_name(name: str) -> str:
    """The name of a key, unless it can't be one (NoteError): not empty, no space, no plus, no control character."""
    bad = any(c.isspace() or c == "+" or ord(c) < 0x20 or 0xD800 <= ord(c) <= 0xDFFF for c in name)
    if not name or bad:
        raise NoteError(f"{_shown(name)} can't be the name of a key: no spaces, no '+'")
    return name


def written(text: str, signatures: list[Signature]) -> bytes:
    """The note as bytes."""
    if not text.endswith("\n"):
        raise NoteError("the text of a note ends in a newline")
    return (text + "\n" + "".join(signature.line for signature in signatures)).encode()


def split(data: bytes) -> tuple[str, list[Signature]]:
    """Take a note apart without verifying anything; raises NoteError."""
    if len(data) > LONGEST_NOTE:
        raise NoteError(f"a note of {len(data)} bytes, more than {LONGEST_NOTE}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("a malformed note: not UTF-8") from None
    if any(ord(character) < 0x20 and character != "\n" for character in whole):
        raise NoteError("a malformed note: control characters")
    text, border, below = whole.rpartition("\n\n")
    if not border or not below.endswith("\n"):
        raise NoteError("a malformed note: no text and signature lines with an empty line between")
    lines = below[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise NoteError(f"a malformed note: more than {MOST_SIGNATURES} signatures")
    return text + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    data = _decoded(encoded)
    if not line.startswith(_DASH) or not space or data is None or len(data) < 5:
        raise NoteError("a malformed note: a signature line does not read '\u2014 NAME BASE64'")
    return Signature(checked_name(name), data[:4], data[4:])


def opened(data: bytes, verifiers: list[Verifier]) -> Note:
    """Verify a note: a signature of a known key must be good, and there must be one. Raises NoteError."""
    text, signatures = split(data)
    verified: list[Signature] = []
    unknown: list[Signature] = []
    for signature in signatures:
        known = {str(v): v for v in verifiers if (v.name, v.id) == (signature.name, signature.id)}
        if not known:
            if signature.line not in [other.line for other in unknown]:
                unknown.append(signature)
            continue
        if len(known) > 1:
            raise NoteError(f"two keys are called {signature.name}+{signature.id.hex()}")
        if (signature.name, signature.id) in [(other.name, other.id) for other in verified]:
            continue
        if not next(iter(known.values())).verify(text, signature.signature):
            raise NoteError(f"{signature.name}+{signature.id.hex()} did not sign this: the signature is wrong")
        verified.append(signature)
    if not verified:
        names = ", ".join(sorted({f"{s.name}+{s.id.hex()}" for s in unknown}))
        raise NoteError(f"signed by {_shown(names, 200)}, none of which is a key that was given")
    return Note(text, verified, unknown)


def _decoded(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def _shown(text: str, longest: int = 60) -> str:
    return ascii(text if len(text) <= longest else text[:longest] + "...")


def base64_of(data: bytes) -> str:
    """Standard base64 (RFC 4648, section 4), which all of these formats use."""
    return base64.b64encode(data).decode()
