"""Audio between the wire's bytes and samples, and between rates: FFmpeg by PyAV, and soxr.

It owns every format that a stream may name. The bytes come from strangers: they are read from memory only, by
allow-listed demuxers and decoders that can open nothing else, and decoding stops at a bound that counts samples,
whatever the headers say. Streams, models and stages other than in error messages are not known here.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn, cast

import av
import av.container
import numpy as np
import soxr
from numpy.typing import NDArray

from deployments.audio import containers, pcm
from deployments.contracts.engines import ASR_RATE_HZ, Samples
from deployments.contracts.values import RAW_BYTES, AudioFormat, EncodedAudio
from deployments.errors import FragmentTooLarge, InvalidAudio, Stage, SynthesisFailed

MAX_DURATION_MS = 60_000
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = 8
"""More than this is refused; more than two are mixed down to two while decoding."""

_STEREO = 2
_LEAST_RUN_FRAMES = 4
_WHOLE_FILE = "a fragment has to be a whole file, with its header"
_AAC_FRAME_SAMPLES = 1_024
_PADDING_SAMPLES = 4 * _AAC_FRAME_SAMPLES
"""What codecs may add around a fragment of the longest duration: priming and a last frame, HE-AAC's twice as long."""

_DECODERS = (
    *("aac", "mp3float", "mp3", "vorbis", "opus", "libopus", "flac", "alac"),
    *("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw"),
)
_OPEN_OPTIONS = {
    "protocol_whitelist": "",
    "format_whitelist": "aac,mov,mp3,wav,ogg,flac,matroska",  # looked at before the demuxer reads a byte
    "codec_whitelist": ",".join(_DECODERS),
}
_INTEGER_SCALE = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was in some encoded audio."""

    samples: Samples
    """float32 (n_samples, channels), [-1, 1], at the rate that the audio really has."""
    sample_rate_hz: int
    channels: int
    """1 or 2."""
    container: str
    """The label that it came under, which is what the answer is encoded as."""

    @property
    def duration_ms(self) -> int:
        """Of the decoded samples."""
        return pcm.samples_to_ms(self.samples.shape[0], self.sample_rate_hz)


# --- decoding ---------------------------------------------------------------------------------------------------


def decode(audio: EncodedAudio, *, max_duration_ms: int = MAX_DURATION_MS) -> Decoded:
    """Decode audio of any format in `FORMATS`.

    PCM is what its format says. For all else the bytes tell, not the label: ADTS labelled m4a is common. What a
    damaged or cut-off file still holds is kept. Not audio, or none in it: InvalidAudio. Longer than max_duration_ms:
    FragmentTooLarge, found by counting.
    """
    container = audio.format.container
    if container in RAW_BYTES:
        sample_rate_hz, channels = audio.format.sample_rate_hz, audio.format.channels
        _check_shape(sample_rate_hz, channels)
        frame_bytes = RAW_BYTES[container] * channels
        _check_length(len(audio.data) // frame_bytes, sample_rate_hz, max_duration_ms)
        samples = pcm.from_bytes(audio.data, container, channels)
        samples = pcm.map_channels(samples, min(channels, _STEREO))
    else:
        try:
            samples, sample_rate_hz = _decode_container(audio.data, max_duration_ms)
        except av.error.FFmpegError as error:
            raise InvalidAudio(
                Stage.ASR, f"the {container} audio can't be read: {error.strerror}; {_WHOLE_FILE}"
            ) from error
    if samples.shape[0] == 0:
        raise InvalidAudio(Stage.ASR, f"the {container} audio holds no samples")
    return Decoded(samples, sample_rate_hz, samples.shape[1], container)


def _decode_container(data: bytes, max_duration_ms: int) -> tuple[Samples, int]:
    containers.check_beginning(data)
    demuxer = containers.demuxer_of(data)
    if demuxer == "mov":
        containers.check_mp4(data)
    with av.open(
        io.BytesIO(data),
        "r",
        format=demuxer or None,
        options=_OPEN_OPTIONS,
        metadata_errors="replace",
        io_open=_open_nothing,
    ) as container:
        stream = next(iter(container.streams.audio), None)
        if stream is None or not stream.codec_context or stream.codec_context.name not in _DECODERS:
            raise InvalidAudio(
                Stage.ASR, f"the {container.format.name} container has no audio track that is known; {_WHOLE_FILE}"
            )
        stream.codec_context.thread_count = 1
        runs = _runs(_frames(container, stream), max_duration_ms)
        if not runs:
            raise InvalidAudio(
                Stage.ASR, f"nothing in the {container.format.name} container could be decoded; {_WHOLE_FILE}"
            )
        sample_rate_hz = runs[0].sample_rate_hz
        samples = _joined(runs)
        if demuxer == "mov":
            samples = samples[: _told_samples(stream, sample_rate_hz, samples.shape[0])]
        return samples, sample_rate_hz


@dataclass(slots=True)
class _Run:
    """Frames in a row of one rate and one number of channels."""

    sample_rate_hz: int
    channels: int
    blocks: list[Samples]


def _runs(frames: Iterator[av.AudioFrame], max_duration_ms: int) -> list[_Run]:
    """The frames by their shape, which may change on the way, as where a recorder was set anew.

    A change that lasts for no more than a few frames is a damaged header and not heard.
    """
    runs: list[_Run] = []
    seconds = 0.0
    for frame in frames:
        rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
        if not runs or (rate_hz, channels) != (runs[-1].sample_rate_hz, runs[-1].channels):
            if not runs:
                _check_shape(rate_hz, channels)
            runs.append(_Run(rate_hz, channels, []))
        seconds += frame.samples / rate_hz
        _check_length(round(seconds * runs[0].sample_rate_hz), runs[0].sample_rate_hz, max_duration_ms)
        runs[-1].blocks.append(pcm.map_channels(_as_float(frame), min(channels, _STEREO)))
    longest = max((len(run.blocks) for run in runs), default=0)
    return [
        run
        for run in runs
        if len(run.blocks) >= min(_LEAST_RUN_FRAMES, longest) and MIN_RATE_HZ <= run.sample_rate_hz <= MAX_RATE_HZ
    ]


def _joined(runs: list[_Run]) -> Samples:
    """All runs at the first one's rate, with as many channels as the widest."""
    channels = max(min(run.channels, _STEREO) for run in runs)
    return pcm.bounded(
        np.concatenate(
            [
                pcm.map_channels(
                    resample(np.concatenate(run.blocks), run.sample_rate_hz, runs[0].sample_rate_hz), channels
                )
                for run in runs
            ]
        )
    )


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """Refuse whatever a demuxer would open besides the bytes it was given."""
    raise PermissionError(f"media may not open {len(url)} characters of URL (flags {flags}, {len(options)} options)")


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """All frames that can be decoded: a bad packet is passed over, a bad container ends."""
    packets = container.demux(stream)
    ended = False
    while not ended:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            packet, ended = None, True
        try:
            yield from stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            continue


def _as_float(frame: av.AudioFrame) -> Samples:
    """A frame of any sample format as float32 (n_samples, n_channels)."""
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    scale = _INTEGER_SCALE.get(values.dtype.name)
    if scale is None:
        return values.astype(np.float32)
    offset = scale if values.dtype == np.uint8 else 0.0
    return ((values - offset) / scale).astype(np.float32)


def _told_samples(stream: av.AudioStream, sample_rate_hz: int, n_samples: int) -> int:
    """How many of the samples count: MP4 tells where in the last frame the audio ends, and FFmpeg leaves it in."""
    if not stream.duration or stream.time_base is None:
        return n_samples
    told = round(stream.duration * stream.time_base * sample_rate_hz)
    return told if 0 < n_samples - told < 2 * _AAC_FRAME_SAMPLES else n_samples


def _check_shape(sample_rate_hz: int, channels: int) -> None:
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise InvalidAudio(Stage.ASR, f"{sample_rate_hz} Hz is not between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidAudio(Stage.ASR, f"{channels} channels, 1 to {MAX_CHANNELS} are accepted")


def _check_length(n_samples: int, sample_rate_hz: int, max_duration_ms: int) -> None:
    if n_samples > pcm.ms_to_samples(max_duration_ms, sample_rate_hz) + _PADDING_SAMPLES:
        raise FragmentTooLarge(
            Stage.ASR, f"the audio is longer than {max_duration_ms} ms", {"max_duration_ms": max_duration_ms}
        )


# --- encoding ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    """How FFmpeg makes one of our formats."""

    muxer: str
    codec: str
    sample_format: str
    rates_hz: tuple[int, ...] = ()
    """Empty: any."""
    bit_rate_per_channel: int = 0
    """Bits a second; 0: the codec is lossless."""
    options: tuple[tuple[str, str], ...] = ()
    """Of the codec."""


_AAC_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
# FFmpeg's default coder is made for lower rates: here it takes twice the time, and the speech comes out further off.
_AAC_OPTIONS = (("aac_coder", "fast"),)
_MP3_RATES_HZ = _AAC_RATES_HZ[:9]
_OPUS_RATES_HZ = (48_000,)  # it can be told less, but every decoder gives 48 000 back
_TARGETS = {
    "m4a": _Target("ipod", "aac", "fltp", _AAC_RATES_HZ, 64_000, _AAC_OPTIONS),
    "aac": _Target("adts", "aac", "fltp", _AAC_RATES_HZ, 64_000, _AAC_OPTIONS),
    "wav": _Target("wav", "pcm_s16le", "s16"),
    "mp3": _Target("mp3", "libmp3lame", "fltp", _MP3_RATES_HZ, 64_000),
    # Ogg holds Opus too: PyAV brings no libvorbis, and FFmpeg's own Vorbis encoder is experimental and knows no mono.
    "ogg": _Target("ogg", "libopus", "flt", _OPUS_RATES_HZ, 48_000),
    "opus": _Target("ogg", "libopus", "flt", _OPUS_RATES_HZ, 48_000),
    "flac": _Target("flac", "flac", "s16"),
    "webm": _Target("webm", "libopus", "flt", _OPUS_RATES_HZ, 48_000),
    "mp4": _Target("mp4", "aac", "fltp", _AAC_RATES_HZ, 64_000, _AAC_OPTIONS),
}
FORMATS: tuple[str, ...] = (*pcm.SAMPLE_BYTES, *_TARGETS)
"""The names that a stream may use as its format."""

_FLAC_EXACT_RATE_HZ = 65_535
"""Up to here FLAC's header can name any rate, above only multiples of 10."""


def encode(samples: Samples, sample_rate_hz: int, output: AudioFormat) -> EncodedAudio:
    """Encode samples (n,) or (n, n_channels), n > 0, as `output` asks.

    The result's format says what it became: a codec that can't do the rate asked for gets the next higher one that
    it can, or its highest. None of the samples: SynthesisFailed.
    """
    if samples.shape[0] == 0:
        raise SynthesisFailed(Stage.TTS, "there are no samples to encode")
    made = AudioFormat(output.container, _possible_rate_hz(output), min(output.channels, _STEREO))
    mapped = pcm.with_channel_axis(samples)
    if mapped.shape[1] > made.channels:
        mapped = pcm.map_channels(mapped, made.channels)
    mapped = np.clip(resample(mapped, sample_rate_hz, made.sample_rate_hz), -1.0, 1.0)
    mapped = pcm.map_channels(mapped, made.channels)
    if made.container in pcm.SAMPLE_BYTES:
        return EncodedAudio(pcm.to_bytes(mapped, made.container), made)
    return EncodedAudio(_encode_container(mapped, made), made)


def decoded_duration_ms(n_samples: int, sample_rate_hz: int, output: AudioFormat) -> int:
    """How long a decoder will find n_samples encoded as `output` to be, in ms.

    All containers tell the exact length but ADTS, which has whole frames, and one more before the first.
    """
    if output.container != "aac":
        return pcm.samples_to_ms(n_samples, sample_rate_hz)
    rate_hz = _possible_rate_hz(output)
    frames = -(-n_samples * rate_hz // (sample_rate_hz * _AAC_FRAME_SAMPLES)) + 1
    return pcm.samples_to_ms(frames * _AAC_FRAME_SAMPLES, rate_hz)


def joins(output: AudioFormat) -> bool:
    """Whether pieces that are decoded one by one follow each other without a gap: ADTS begins with a frame of none."""
    return output.container != "aac"


def _possible_rate_hz(output: AudioFormat) -> int:
    """The rate asked for, else the next higher that the codec can do, else its highest."""
    asked = output.sample_rate_hz
    if output.container == "flac" and asked > _FLAC_EXACT_RATE_HZ:
        return -(-asked // 10) * 10
    rates_hz = () if output.container in pcm.SAMPLE_BYTES else _TARGETS[output.container].rates_hz
    return next((rate for rate in rates_hz if rate >= asked), rates_hz[-1] if rates_hz else asked)


def _encode_container(samples: Samples, made: AudioFormat) -> bytes:
    target = _TARGETS[made.container]
    options: dict[str, str] = {}
    if target.muxer in {"ipod", "mp4"}:
        # A place for the index before the media (FFmpeg's faststart would reopen a file, and there is none), and a
        # clock fine enough to tell the duration to the sample.
        index_bytes = 2_048 + 8 * (samples.shape[0] // _AAC_FRAME_SAMPLES + 2)
        options = {"moov_size": str(index_bytes), "movie_timescale": str(made.sample_rate_hz)}
    values: Samples | NDArray[np.int16] = pcm.to_s16(samples) if target.sample_format == "s16" else samples
    planes = cast(Samples, values.T if target.sample_format.endswith("p") else values.reshape(1, -1))
    layout = "mono" if made.channels == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format=target.sample_format, layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = made.sample_rate_hz, Fraction(1, made.sample_rate_hz), 0
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=target.muxer, options=options) as container:
        stream = cast(
            av.AudioStream,
            container.add_stream(
                target.codec,
                rate=made.sample_rate_hz,
                options=dict(target.options),
                layout=layout,
                format=target.sample_format,
            ),
        )
        if target.bit_rate_per_channel:
            stream.bit_rate = target.bit_rate_per_channel * made.channels
        for part in (frame, None):
            container.mux(stream.encode(part))
    return buffer.getvalue()


# --- rates ------------------------------------------------------------------------------------------------------


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Samples (n,) or (n, n_channels) at another rate."""
    if from_hz == to_hz:
        return samples
    return np.asarray(soxr.resample(samples, from_hz, to_hz), dtype=np.float32)


def to_asr(decoded: Decoded) -> Samples:
    """What ASR engines hear: float32 (n_samples,), mono, 16 000 Hz, around zero.

    Where the channels cancel each other out, as with one of a pair of microphones wired the wrong way round, it is the
    louder one.
    """
    mono = pcm.heard(decoded.samples)
    return np.clip(resample(mono, decoded.sample_rate_hz, ASR_RATE_HZ), -1.0, 1.0)
