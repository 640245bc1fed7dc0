"""A decoding child that does to itself what the first word of its input says; anything else it decodes."""

import ctypes
import os
import time

import numpy as np

from deployments.audio import codec
from deployments.audio.decode_worker import serve


def decode(audio):  # noqa: C901 - a case for each way to die
    match audio.data.split(b" ")[0]:
        case b"segfault":
            ctypes.string_at(0)
        case b"exit":
            os._exit(0)
        case b"spin":
            while True:
                pass
        case b"swell":
            return bytearray(4 * 1024**3)
        case b"open":
            return open(__file__)  # noqa: PTH123
        case b"wait":
            time.sleep(3600)
        case b"pause":
            time.sleep(0.2)
            return codec.Decoded(np.zeros((4_800, 1), np.float32), 48_000, 1, audio.format.container)
        case b"once":
            path = audio.data.split(b" ")[1]
            # The directory is there from before; it is removed, since no file can be made here.
            if os.path.isdir(path):  # noqa: PTH112
                os.rmdir(path)  # noqa: PTH106
                os.abort()
    return codec.decode(audio)


serve(decode)
