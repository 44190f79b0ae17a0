"""Signed notes, keys and checkpoints against the vectors of C2SP and of golang.org/x/mod."""

from __future__ import annotations

import pytest

from fhir_hook.audit import checkpoint, note

# Source: golang.org/x/mod v0.22.0, sumdb/note/note_test.go
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_SIGNATURE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_SIGNATURE = (
    "\u2014 EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
peter, enoch = note.Verifier.parse(PETER), note.Verifier.parse(ENOCH)


def opened(text: str, *verifiers: note.Verifier) -> note.Note:
    return note.opened(text.encode(), list(verifiers))


def test_a_key_signs_what_the_go_module_signs() -> None:
    signer = note.Signer.parse(PETER_SECRET)
    assert note.written(TEXT, [signer.sign(TEXT)]).decode() == TEXT + "\n" + PETER_SIGNATURE
    assert str(signer.verifier) == PETER and signer.secret() == PETER_SECRET


def test_no_part_and_no_mangling_of_a_verifier_key_is_one() -> None:
    texts = [PETER[i:j] for i in range(len(PETER) + 1) for j in range(i + 1, len(PETER) + 1) if j - i < len(PETER)]
    texts += [PETER[:i] + chr(ord(PETER[i]) + 1) + PETER[i + 1 :] for i in range(len(PETER))]
    texts.append("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==")
    texts.append("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    for text in texts:
        with pytest.raises(note.NoteError):
            note.Verifier.parse(text)


def test_no_part_and_no_mangling_of_a_signing_key_is_one_and_no_message_shows_it() -> None:
    secret = PETER_SECRET
    texts = [secret[i:j] for i in range(len(secret) + 1) for j in range(i + 1, len(secret) + 1) if j - i < len(secret)]
    texts += [secret[:i] + chr(ord(secret[i]) + 1) + secret[i + 1 :] for i in range(len(secret))]
    for text in texts:
        with pytest.raises(note.NoteError) as caught:
            note.Signer.parse(text)
        assert "AYEKFALV" not in str(caught.value)


def test_a_note_is_opened_by_the_keys_that_are_known() -> None:
    both = TEXT + "\n" + PETER_SIGNATURE + ENOCH_SIGNATURE
    found = opened(both, peter)
    assert (found.text, [s.name for s in found.verified]) == (TEXT, ["PeterNeumann"])
    assert [s.line for s in found.unknown] == [ENOCH_SIGNATURE]
    assert [s.name for s in opened(both, peter, enoch).verified] == ["PeterNeumann", "EnochRoot"]
    with pytest.raises(note.NoteError, match="none of which"):
        opened(both)


def test_repeated_signatures_count_once() -> None:
    spoilt = ENOCH_SIGNATURE[:60] + "ABCD" + ENOCH_SIGNATURE[60:]
    found = opened(TEXT + "\n" + 2 * PETER_SIGNATURE + 2 * ENOCH_SIGNATURE + spoilt, peter)
    assert [s.line for s in found.verified] == [PETER_SIGNATURE]
    assert [s.line for s in found.unknown] == [ENOCH_SIGNATURE, spoilt]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT + "\n",
        TEXT + "\n" + PETER_SIGNATURE[:-1],
        "\x01" + TEXT + "\n" + PETER_SIGNATURE,
        TEXT + "\n" + PETER_SIGNATURE + "Unexpected line.\n",
        TEXT + "\n" + PETER_SIGNATURE.replace("PeterNeumann", "Bad Name"),
        TEXT + "\n" + 101 * PETER_SIGNATURE,
        TEXT + "\n" + PETER_SIGNATURE[:60] + "ABCD" + PETER_SIGNATURE[60:],
        TEXT.replace("answer", "Answer") + "\n" + PETER_SIGNATURE,
    ],
    ids=["text", "no line", "no end", "control", "other line", "name", "101", "wrong signature", "changed text"],
)
def test_a_malformed_or_wrongly_signed_note_is_refused(text: str) -> None:
    with pytest.raises(note.NoteError):
        opened(text, peter)


def test_a_note_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(note.NoteError):
        note.opened(b"\xff" + (TEXT + "\n" + PETER_SIGNATURE).encode(), [peter])


def test_the_specification_s_own_checkpoint_is_read() -> None:
    # Source: C2SP tlog-checkpoint and tlog-cosignature (the example note; its keys are not published)
    data = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGz"
        "Gku9nTo+zyWE+xeMcTOAYQ8=\n"
        "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nP"
        "Zqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    text, signatures = note.split(data.encode())
    found = checkpoint.Checkpoint.parse(text)
    assert (found.origin, found.size, found.text) == ("example.com/behind-the-sofa", 20852163, text)
    assert [(s.name, s.id.hex(), len(s.signature)) for s in signatures] == [
        ("example.com/behind-the-sofa", "033de0ae", 64),
        ("witness.example.com/w1", "8d66cf3f", 72),
    ]
    assert int.from_bytes(signatures[1].signature[:8], "big") == 1679315147
    assert "".join([text, "\n", *(s.line for s in signatures)]) == data


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n",
        "origin\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n-1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n+1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n0xabcdef\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n\u0661\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n99999999999999999999\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxBTOOBIG=\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\nmore\n",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.Checkpoint.parse(text)


def test_a_cosignature_is_signed_with_its_time_and_is_no_signature_of_a_log() -> None:
    log, witness = note.Signer("log.example", b"l" * 32), note.Signer("w.example", b"w" * 32, note.COSIGNATURE)
    at = checkpoint.Checkpoint("log.example", 7, b"r" * 32)
    data = note.written(at.text, [log.sign(at.text), witness.sign(at.text, 1_700_000_000)])
    both = [log.verifier, witness.verifier]
    assert len(checkpoint.opened(data, both).keys) == 2
    later = note.Signature("w.example", witness.verifier.id, (1_700_000_001).to_bytes(8, "big") + b"s" * 64)
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.opened(note.written(at.text, [log.sign(at.text), later]), both)
    with pytest.raises(checkpoint.CheckpointError, match="none of the log"):
        checkpoint.opened(note.written(at.text, [witness.sign(at.text, 1)]), both)


def test_a_checkpoint_signed_by_a_key_of_another_name_is_refused() -> None:
    at = checkpoint.Checkpoint("one.example", 7, b"r" * 32)
    other = note.Signer("two.example", b"o" * 32)
    with pytest.raises(checkpoint.CheckpointError, match="called otherwise"):
        checkpoint.opened(checkpoint.sign(at, [other]), [other.verifier])


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "\ud800"])
def test_a_name_that_could_not_be_told_apart_is_no_name(name: str) -> None:
    with pytest.raises(note.NoteError):
        note.checked_name(name)
