"""The service with a clock at every door: `import_path: bench.traced:build` instead of `serve_app.app:build`.

Stamps go where `bench.stamps` says. The classes below are those of the service and do what these do.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ray import serve

import serve_app.app
from bench.stamps import stamp
from deployments.contracts.values import (
    Speech,
    SynthesizeRequest,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
)
from serve_app.ingress import Ingress
from serve_app.protocol import FragmentProcessed
from serve_app.stages.ray_stages import RayStages
from serve_app.transport.connection import Connection
from serve_app.transport.engine_io import EngineLink
from serve_app.transport.server import SocketServer


class TracedAsr(serve_app.app.AsrReplica):
    """Stamps calls."""

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """As it is."""
        return await _stamped_call("asr", request, super().transcribe)


class TracedTranslation(serve_app.app.TranslationReplica):
    """Stamps calls."""

    async def translate(self, request: TranslateRequest) -> Translation:
        """As it is."""
        return await _stamped_call("translation", request, super().translate)


class TracedTts(serve_app.app.TtsReplica):
    """Stamps calls."""

    async def synthesize(self, request: SynthesizeRequest) -> Speech:
        """As it is."""
        return await _stamped_call("tts", request, super().synthesize)


class TracedIngress(Ingress):
    """Stamps what its sockets, its handles and its connections do."""

    def __init__(self, *args: Any, **options: Any) -> None:
        _stamp_ingress()
        super().__init__(*args, **options)


def build(args: Mapping[str, Any]) -> serve.Application:
    """`serve_app.app.build` with the classes above."""
    replaced = {
        "AsrReplica": TracedAsr,
        "TranslationReplica": TracedTranslation,
        "TtsReplica": TracedTts,
        "Ingress": TracedIngress,
    }
    for name, traced in replaced.items():
        setattr(serve_app.app, name, traced)
    return serve_app.app.build(args)


async def _stamped_call(stage: str, request: Any, call: Callable[[Any], Awaitable[Any]]) -> Any:
    stamp(request.ref.fragment_id, f"{stage} in")
    try:
        return await call(request)
    finally:
        stamp(request.ref.fragment_id, f"{stage} out")


def _stamp_ingress() -> None:
    receive, on_fragment, call = EngineLink.receive, SocketServer._fragment, RayStages._call  # noqa: SLF001
    post, deliver = Connection.post, Connection._deliver  # noqa: SLF001

    async def received(self: EngineLink) -> Any:
        message = await receive(self)
        self._closer.received_s = time.monotonic()  # type: ignore[attr-defined]
        return message

    def accepted(self: SocketServer, connection: Connection, data: Any) -> None:
        stamp(data.fragment_id, "received", connection._closer.received_s)  # type: ignore[attr-defined]  # noqa: SLF001
        on_fragment(self, connection, data)
        stamp(data.fragment_id, "accepted")

    async def called(self: RayStages, stage: Any, method: Any, request: Any) -> Any:
        stamp(request.ref.fragment_id, f"{stage} called")
        try:
            return await call(self, stage, method, request)
        finally:
            stamp(request.ref.fragment_id, f"{stage} answered")

    def posted(self: Connection, item: Any) -> None:
        if isinstance(item, FragmentProcessed):
            stamp(item.fragment_id, "posted")
        post(self, item)

    async def delivered(self: Connection, event: Any) -> None:
        if not isinstance(event, FragmentProcessed):
            await deliver(self, event)
            return
        stamp(event.fragment_id, "taken")
        send = self._send

        async def encoded(event: Any, binary: bool) -> None:
            await send(event, binary)
            stamp(event.fragment_id, "encoded")

        self._send = encoded
        try:
            await deliver(self, event)
        finally:
            self._send = send

    for owner, name, wrapped in (
        (EngineLink, "receive", received),
        (SocketServer, "_fragment", accepted),
        (RayStages, "_call", called),
        (Connection, "post", posted),
        (Connection, "_deliver", delivered),
    ):
        setattr(owner, name, wrapped)
