"""What DeepL looks like from outside: an HTTP server that answers as it is told, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SOURCES = ("DE", "EN", "ES", "JA", "NB", "PT")
TARGETS = ("DE", "EN-GB", "EN-US", "ES", "JA", "NB", "PT-BR", "PT-PT")


@dataclass(frozen=True)
class Answer:
    """How one request to translate is answered."""

    status: int = 200
    body: str | None = None
    """None: what DeepL would say to this status."""
    headers: dict[str, str] = field(default_factory=dict)
    n_texts_missing: int = 0
    hang: bool = False
    """Never say a word."""
    drip: bool = False
    """Say it byte by byte, for ever."""
    only_for: str = ""
    """Requests without this text are answered well."""


@dataclass
class DeepLStub:
    """A running stub.

    `answers` are used up one a request to translate; then `answer` counts.
    """

    url: str = ""
    answer: Answer = Answer()
    answers: list[Answer] = field(default_factory=list)
    languages: Answer = Answer()
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Of the requests to translate."""
    lengths: list[int] = field(default_factory=list)
    """Bytes of those bodies, as they came."""
    keys: set[str] = field(default_factory=set)
    n_connections: int = 0
    glossaries: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name to pair."""
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def n_calls(self) -> int:
        """Requests to translate, so far."""
        return len(self.bodies)

    def next_answer(self, body: dict[str, Any], n_bytes: int) -> Answer:
        with self.lock:
            self.bodies.append(body)
            self.lengths.append(n_bytes)
            answer = self.answers.pop(0) if self.answers else self.answer
        if answer.only_for and answer.only_for not in body["text"]:
            return Answer()
        return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536
    """Head and body leave together; apart, the second would wait 40 ms for the client to acknowledge the first."""
    stub: DeepLStub

    def setup(self) -> None:
        super().setup()
        with self.stub.lock:
            self.stub.n_connections += 1

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.path.startswith("/v3/glossaries"):
            self._say(Answer(), {"glossaries": [_glossary(*entry) for entry in self.stub.glossaries.items()]})
        else:
            codes = TARGETS if "type=target" in self.path + body else SOURCES
            self._say(self.stub.languages, [{"language": code, "name": code} for code in codes])

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.stub.keys.add(self.headers["Authorization"])
        body = json.loads(raw)
        answer = self.stub.next_answer(body, len(raw))
        texts = body["text"][: len(body["text"]) - answer.n_texts_missing]
        said = [
            {"text": f"[{body['target_lang']}] {text}", "detected_source_language": "EN", "billed_characters": 1}
            for text in texts
        ]
        self._say(answer, {"translations": said} if answer.status == 200 else {"message": "no"})

    def _say(self, answer: Answer, body: object) -> None:
        if answer.hang:
            self.stub.ended.wait(30)
            self.close_connection = True
            return
        raw = (json.dumps(body) if answer.body is None else answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(10**6 if answer.drip else len(raw)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        while answer.drip and not self.stub.ended.is_set():
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.05)
        self.wfile.write(raw)
        self.wfile.flush()


def _glossary(name: str, pair: tuple[str, str]) -> dict[str, object]:
    dictionary = {"source_lang": pair[0], "target_lang": pair[1], "entry_count": 1}
    created = "2025-08-03T14:16:18.329Z"
    return {"glossary_id": f"id-of-{name}", "name": name, "creation_time": created, "dictionaries": [dictionary]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that give up are no news."""


@contextmanager
def deepl_stub() -> Iterator[DeepLStub]:
    """A stub on a port of its own, for as long as this is entered."""
    stub = DeepLStub()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub}))
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
