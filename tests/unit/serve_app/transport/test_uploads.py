"""Bodies of requests as files: whole, or refused with a status, and gone afterwards."""

import asyncio
import tempfile

import pytest

from serve_app.transport import uploads
from serve_app.transport.uploads import UploadRefused, stored


async def body(*pieces: bytes):
    for piece in pieces:
        yield piece


async def test_a_body_is_a_file_at_its_beginning():
    pieces = [bytes([number]) * 700_000 for number in range(4)]
    async with stored(body(*pieces), 3_000_000) as file:
        assert file.read() == b"".join(pieces)
        assert file.fileno() > 0


@pytest.mark.parametrize(
    ("pieces", "status", "message"),
    [([], 400, "is empty"), ([b""], 400, "is empty"), ([bytes(60), bytes(60)], 413, "more than 100 bytes")],
)
async def test_what_is_empty_or_too_large_is_refused(pieces, status, message):
    with pytest.raises(UploadRefused, match=message) as refused:
        async with stored(body(*pieces), 100):
            pytest.fail("it was taken")
    assert refused.value.status == status


async def test_a_body_that_does_not_go_on_is_refused(monkeypatch):
    async def hanging():
        yield b"begin"
        await asyncio.Event().wait()

    monkeypatch.setattr(uploads, "SILENT_LIMIT_S", 0.01)
    with pytest.raises(UploadRefused, match="nothing more") as refused:
        async with stored(hanging(), 100):
            pytest.fail("it was taken")
    assert refused.value.status == 408


async def test_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: open("/dev/full", "w+b", buffering))  # noqa: PTH123, SIM115
    with pytest.raises(UploadRefused, match="No space left") as refused:
        async with stored(body(bytes(1000)), 10_000):
            pytest.fail("it was taken")
    assert refused.value.status == 507


async def test_a_client_that_reads_nothing_of_an_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(uploads, "SILENT_LIMIT_S", 0.01)

    async def stuck(_message):
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await uploads.in_time(stuck)({"type": "http.response.body", "body": b"more"})
