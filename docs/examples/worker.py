# ruff: noqa: INP001, T201
"""A whole worker in one file: dubs a 16-bit WAV file over the bare protocol. Needs python-socketio[asyncio_client].

python docs/examples/worker.py http://127.0.0.1:8000 talk.wav dub.wav es
"""

import asyncio
import sys
import time
import wave

import socketio

CHUNK_MS = 6000
FORMAT = "pcm_s16le"


class Worker:
    """One stream on one connection."""

    def __init__(self, source: str) -> None:
        with wave.open(source) as wav:
            if wav.getsampwidth() != 2:  # noqa: PLR2004 - bytes of a sample
                sys.exit(f"{source} is not 16-bit PCM")
            self.rate_hz, self.channels = wav.getframerate(), wav.getnchannels()
            self.pieces = list(iter(lambda: wav.readframes(self.rate_hz * CHUNK_MS // 1000), b""))
        # Where no dub comes, the original sound stays.
        self.dubs = list(self.pieces)
        self.stream_id = f"example-{time.time_ns()}"
        self.window = asyncio.Semaphore(0)
        self.ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sio = socketio.AsyncClient(reconnection=False)
        self.sio.on("stream:ready", lambda event: self.ready.set_result(event["max_inflight"]))
        self.sio.on("fragment:processed", self.processed)
        self.sio.on("error", self.refused)
        self.sio.on("stream:complete", self.complete)
        self.sio.on("disconnect", lambda reason: self.stop(f"the connection ended: {reason}"))

    def processed(self, event: dict) -> None:
        """One fragment has its result."""
        number = event["sequence_number"]
        print(number, event["status"], event.get("translated_text") or event.get("error"))
        if event["status"] != "failed":
            self.dubs[number] = event["dubbed_audio"]["data"]
        self.window.release()

    def refused(self, event: dict) -> None:
        """Something was not taken."""
        print(event["severity"], event["code"], event["message"])
        if event["severity"] == "warning":
            return
        if "fragment_id" in event:  # no result will come for it
            self.window.release()
        else:
            self.stop(event["message"])

    def complete(self, event: dict) -> None:
        """Everything has its result."""
        print(event["success_count"], "of", event["total_fragments"], "dubbed")
        self.done.set_result(None)

    def stop(self, reason: str) -> None:
        """It can't go on."""
        for waited_for in (self.ready, self.done):
            if not waited_for.done():
                waited_for.set_exception(SystemExit(reason))
        self.window.release()

    async def dub(self, url: str, language: str) -> None:
        """Send all pieces, wait for all results."""
        shape = {"format": FORMAT, "sample_rate_hz": self.rate_hz, "channels": self.channels}
        await self.sio.connect(url, transports=["websocket"])
        config = {"target_language": language, **shape}
        await self.sio.emit("stream:init", {"stream_id": self.stream_id, "worker_id": "example", "config": config})
        for _ in range(await self.ready):  # never more unanswered fragments than the server wants
            self.window.release()
        for number, piece in enumerate(self.pieces):
            await self.window.acquire()
            duration_ms = len(piece) * 1000 // (self.rate_hz * self.channels * 2)
            fragment = {
                "fragment_id": f"{self.stream_id}-{number}",
                "stream_id": self.stream_id,
                "sequence_number": number,
                "timestamp": time.time_ns() // 1_000_000,
                "audio": {**shape, "duration_ms": duration_ms, "data": piece},
            }
            await self.sio.emit("fragment:data", fragment)
        await self.sio.emit("stream:end", {"stream_id": self.stream_id})
        await self.done
        await self.sio.disconnect()

    def save(self, target: str) -> None:
        """Write the dub."""
        with wave.open(target, "wb") as wav:
            wav.setnchannels(self.channels)
            wav.setsampwidth(2)
            wav.setframerate(self.rate_hz)
            wav.writeframes(b"".join(self.dubs))


async def main(url: str, source: str, target: str, language: str) -> None:
    """Dub `source` into `target`."""
    worker = Worker(source)
    await worker.dub(url, language)
    worker.save(target)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
