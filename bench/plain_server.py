"""What one would write in an afternoon: the same models behind a plain Socket.IO server, in one process.

    python -m bench.plain_server configs/local.yaml --port 9000 [--threads 2]

Fragments are acknowledged when they arrive and dubbed in the handler itself; with `--threads`, in so many threads. The
engines, their options and threads, the fitting and the encoding are the service's own; streams, order, deadlines and
backpressure are not kept. The rival of bench.baselines, and good for nothing else.
"""

import argparse
import asyncio
import base64
import logging
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import socketio
import uvicorn

from deployments.asr import AsrUserConfig
from deployments.asr.deployment import Windowed
from deployments.audio import codec
from deployments.contracts.engines import Line, Utterance
from deployments.contracts.values import AudioFormat, EncodedAudio, FragmentRef, TranslateRequest
from deployments.tts.fitting import fit, speech_ms
from deployments.tts.voices import ANY_LANGUAGE
from serve_app.configuration.loading import load_args, load_voices
from serve_app.configuration.schema import AppConfig
from serve_app.configuration.serve_file import args_of, read_schema

SOURCE, TARGET = "en", "es"
BUDGET_S = 120.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class NotDubbed(RuntimeError):
    """A stage failed."""


@dataclass(frozen=True, slots=True)
class Dub:
    """One fragment, dubbed."""

    audio: bytes
    duration_ms: int
    transcript: str
    translation: str


class Dubber:
    """All models in this process. `dub` blocks; several threads may call it."""

    def __init__(self, config: AppConfig) -> None:
        self._limits = config.fit
        self._asr, self._translator, self._voice = config.asr.build(), config.translation.build(), config.tts.build()
        voices, defaults = load_voices(config.voices).for_engine(self._voice.voice_models)
        self._asr.load()
        if isinstance(self._asr, Windowed):
            self._asr.use_window(AsrUserConfig().window_frames)
        self._translator.load()
        self._voice.load(voices)
        self._speaker = voices[defaults.get(TARGET) or defaults[ANY_LANGUAGE]]

    def dub(self, data: bytes, output: AudioFormat) -> Dub:
        """Decode, recognise, translate, speak, fit and encode one fragment with speech in it.

        Raises:
            NotDubbed: a stage failed, or nothing was said.
        """
        ref = FragmentRef("", "", 0)
        decoded = codec.decode(EncodedAudio(data, output))
        [heard] = self._asr.transcribe([Utterance(ref, codec.to_asr(decoded), SOURCE)])
        if isinstance(heard, Exception) or not heard.text:
            raise NotDubbed(f"not heard: {heard}")
        request = TranslateRequest(ref, heard.text, SOURCE, TARGET, (), context="", budget_ms=int(BUDGET_S * 1000))
        [text] = self._translator.translate([request])
        if isinstance(text, Exception):
            raise NotDubbed(f"not translated: {text}")
        line = Line(ref, text, self._speaker, decoded.duration_ms, speech_ms=speech_ms(heard.speech))
        spoken = self._voice.speak(line)
        deadline_s = time.monotonic() + BUDGET_S
        fitted = fit(
            spoken,
            decoded.duration_ms,
            output,
            self._limits,
            deadline_s=deadline_s,
            clock=time.monotonic,
            speech=heard.speech,
        )
        audio = codec.encode(fitted.samples, spoken.sample_rate_hz, output)
        return Dub(audio.data, decoded.duration_ms, heard.text, text)

    def close(self) -> None:
        """End the translator's processes."""
        self._translator.close()


Work = Callable[[bytes, AudioFormat], Awaitable[Dub]]


def app(work: Work) -> socketio.ASGIApp:
    """The Socket.IO server around the models."""
    sio = socketio.AsyncServer(
        async_mode="asgi", transports=["websocket"], max_http_buffer_size=MAX_MESSAGE_BYTES, cors_allowed_origins=[]
    )

    async def init(sid: str, data: dict[str, Any]) -> None:
        await sio.emit("stream:ready", {"stream_id": data["stream_id"], "session_id": sid, "max_inflight": 3}, to=sid)

    async def fragment(sid: str, data: dict[str, Any]) -> None:
        came_s = time.monotonic()
        name = {"fragment_id": data["fragment_id"]}
        await sio.emit("fragment:ack", {**name, "status": "queued", "timestamp": int(time.time() * 1000)}, to=sid)
        await asyncio.sleep(0)  # so that the acknowledgement leaves before a handler that computes holds the loop
        audio = data["audio"]
        output = AudioFormat(audio["format"], audio["sample_rate_hz"], audio["channels"])
        result = {**name, "stream_id": data["stream_id"], "sequence_number": data["sequence_number"]}
        try:
            dub = await work(base64.b64decode(audio["data_base64"]), output)
        except Exception as error:  # noqa: BLE001 - whatever it was, its worker waits for an answer
            failure = {"stage": "asr", "code": "MODEL_ERROR", "message": str(error), "retryable": True}
            await sio.emit("fragment:processed", {**result, "status": "failed", "error": failure}, to=sid)
            return
        dubbed = {**audio, "duration_ms": dub.duration_ms, "data_base64": base64.b64encode(dub.audio).decode()}
        said = {"transcript": dub.transcript, "translated_text": dub.translation}
        took = {"processing_time_ms": round((time.monotonic() - came_s) * 1000)}
        await sio.emit(
            "fragment:processed", {**result, **said, **took, "status": "success", "dubbed_audio": dubbed}, to=sid
        )

    sio.on("stream:init", init)
    sio.on("fragment:data", fragment)
    return socketio.ASGIApp(sio, socketio_path="socket.io")


def in_the_handler(dubber: Dubber) -> Work:
    """Blocking calls in `async def`, as they are often written."""

    async def work(data: bytes, output: AudioFormat) -> Dub:
        return dubber.dub(data, output)

    return work


def in_threads(dubber: Dubber, threads: int) -> Work:
    """Blocking calls in a pool of threads."""
    pool = ThreadPoolExecutor(threads)

    async def work(data: bytes, output: AudioFormat) -> Dub:
        return await asyncio.get_running_loop().run_in_executor(pool, dubber.dub, data, output)

    return work


def configured(path: Path) -> AppConfig:
    """The application's configuration out of a Serve configuration file."""
    return load_args(args_of(read_schema(path)), os.environ)


def main() -> None:
    """Serve until it is ended."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("config", type=Path)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--threads", type=int, default=0, help="0: dub in the handler itself")
    given = arguments.parse_args()
    logging.disable(logging.INFO)
    dubber = Dubber(configured(given.config))
    work = in_threads(dubber, given.threads) if given.threads else in_the_handler(dubber)
    try:
        uvicorn.run(app(work), host="127.0.0.1", port=given.port, log_level="warning")
    finally:
        dubber.close()


if __name__ == "__main__":
    main()
