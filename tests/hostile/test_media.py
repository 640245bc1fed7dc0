"""Every hostile medium through the decoding processes: the right error for good, and no decoder dies."""

import pytest

from deployments.audio.decoders import Decoders
from deployments.contracts.values import AudioFormat, EncodedAudio
from deployments.errors import InvalidAudio, PermanentError, Stage, StageError
from tests.hostile.corpus import ANY, OK, media


def outcome(pool: Decoders, case) -> str:
    try:
        pool.decode(EncodedAudio(case.data, AudioFormat(case.label, case.rate_hz, case.channels)), 30_000)
    except StageError as error:
        return error.code if isinstance(error, PermanentError) else f"retryable {error.code}"
    return OK


def test_the_corpus_is_large_and_says_what_it_expects():
    assert len(media()) >= 500
    assert sum(case.expected != ANY for case in media()) >= 150


def test_every_medium_gets_its_error_and_no_decoder_dies():
    pool = Decoders(Stage.ASR, 1)
    pool.start()
    [before] = [child.process.pid for child in pool._free.queue]
    found = {case.name: outcome(pool, case) for case in media()}
    [after] = [child.process.pid for child in pool._free.queue]
    pool.close()
    wrong = {case.name: found[case.name] for case in media() if found[case.name] not in case.expected}
    assert not wrong
    assert after == before


def test_audio_that_rounds_to_no_time_is_no_audio():
    short = EncodedAudio(bytes(2 * 20), AudioFormat("pcm_s16le", 48_000, 1))
    with pytest.raises(InvalidAudio, match="millisecond"):
        Decoders(Stage.ASR, 0).decode(short, 30_000)
