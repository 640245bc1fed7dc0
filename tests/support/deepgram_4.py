"""Deepgram's Python SDK of version 4, unmodified, in an environment of its own: `deepgram_4.py URL KEY FILE QUERY`.

Streams a file of raw audio, and prints what came as JSON: the types of all messages, in order, and the finals' texts.
"""

import json
import sys
import threading
import time
from pathlib import Path

from deepgram import DeepgramClient, DeepgramClientOptions, LiveOptions, LiveTranscriptionEvents

CHUNK_BYTES = 3200
TIMEOUT_S = 60


def main() -> None:
    url, key, file, query = sys.argv[1:]
    connection = DeepgramClient(key, DeepgramClientOptions(url=url)).listen.websocket.v("1")
    kinds, texts, over = [], [], threading.Event()

    def on(kind: str):
        def heard(_client, **told):
            kinds.append(kind)
            result = told.get("result")
            if result is not None and result.is_final:
                texts.append(result.channel.alternatives[0].transcript)
            if kind == "Metadata":
                over.set()

        return heard

    for event in ("Transcript", "Metadata", "SpeechStarted", "UtteranceEnd", "Error", "Unhandled"):
        connection.on(getattr(LiveTranscriptionEvents, event), on(event))
    if not connection.start(LiveOptions(model="nova-2", **json.loads(query))):
        sys.exit("the connection was not opened")
    audio = Path(file).read_bytes()
    for at in range(0, len(audio), CHUNK_BYTES):
        connection.send(audio[at : at + CHUNK_BYTES])
        time.sleep(0.02)
    connection.send(json.dumps({"type": "CloseStream"}))
    over.wait(TIMEOUT_S)
    connection.finish()
    sys.stdout.write(json.dumps({"kinds": kinds, "texts": texts}))


if __name__ == "__main__":
    main()
