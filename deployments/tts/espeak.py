"""The fast tier: the espeak-ng program. A robot's voice, in a hundredth of the time that a model takes.

One process a try: text on stdin, a WAV on stdout, no shell, no file. As a try takes 10 ms, the rate that hits the
target duration is found by trying.
"""

import io
import re
import shutil
import subprocess
import wave
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from deployments.audio import pcm
from deployments.contracts.engines import Line, Samples, Spoken, TtsEngine
from deployments.contracts.values import Voice
from deployments.errors import ModelFailed, Stage, SynthesisFailed
from deployments.options import EngineOptions
from deployments.tts.speech_rate import wanted_rate
from deployments.tts.text_normalization import plain_text

_NATURAL_WPM = 175
"""Words a minute, espeak-ng's own default."""
_TRIES = 3
_NEAR = 0.01
"""A duration this near to the target needs no other try."""
_SPEAKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+/-]{0,63}")


class EspeakOptions(EngineOptions):
    """Speech by the espeak-ng program."""

    engine: Literal["espeak"] = "espeak"
    faster: None = None
    """None is."""
    program: str = "espeak-ng"
    """Its name on PATH, or its path."""
    timeout_s: float = Field(default=5.0, gt=0.0, le=60.0)
    """The longest that one try may take."""
    min_rate: float = Field(default=0.8, ge=0.5, le=1.0)
    """The slowest speech that is asked for, 1 being 175 words a minute; a text that is still too short is padded."""
    max_rate: float = Field(default=2.0, ge=1.0, le=2.5)
    """The fastest speech that is asked for."""

    def build(self) -> TtsEngine:
        """The engine, not yet loaded and picklable."""
        return EspeakEngine(self)


class EspeakEngine:
    """espeak-ng as a subprocess. A voice's speaker is one of its voice names, such as es-419 or en-us+f3."""

    model = "espeak-ng"
    voice_models = frozenset({"espeak"})
    wants_original = False

    def __init__(self, options: EspeakOptions) -> None:
        self._options = options
        self._program = ""

    def load(self, voices: Mapping[str, Voice]) -> None:
        """Find the program and let every voice say a word.

        Raises:
            FileNotFoundError: the program isn't installed.
            ValueError: it doesn't know a voice.
        """
        program = shutil.which(self._options.program)
        if program is None:
            raise FileNotFoundError(f"{self._options.program} is not on PATH: apt-get install espeak-ng")
        self._program = program
        for voice in voices.values():
            speaker = _speaker(voice)
            if not _SPEAKER.fullmatch(speaker):
                raise ValueError(f"voice {voice.name!r}: {speaker!r} can't be the name of an espeak-ng voice")
            try:
                self._say("ok", speaker, _NATURAL_WPM)
            except SynthesisFailed as error:
                raise ValueError(
                    f"voice {voice.name!r}: espeak-ng has no voice {speaker!r} ({error.message})"
                ) from error

    def speak(self, line: Line) -> Spoken:
        """Speak a text, at most three times, until its duration is within 1 % of the target or a rate limit is met.

        Raises:
            InvalidText: nothing in it can be spoken.
            SynthesisFailed: the program refused, or was silent.
            ModelFailed: it took longer than `timeout_s`.
        """
        text = plain_text(line.text)
        slowest, fastest = (round(_NATURAL_WPM * rate) for rate in (self._options.min_rate, self._options.max_rate))
        wpm = _NATURAL_WPM
        target_ms = 0.0
        tries: list[tuple[float, Spoken]] = []
        while len(tries) < _TRIES:
            samples, sample_rate_hz = self._say(text, _speaker(line.voice), wpm)
            if samples.shape[0] == 0:
                raise SynthesisFailed(Stage.TTS, f"espeak-ng was silent on {len(text)} characters")
            spoken_ms = samples.shape[0] * 1000 / sample_rate_hz
            target_ms = target_ms or spoken_ms / wanted_rate(spoken_ms, line)
            ratio = spoken_ms / target_ms
            tries.append((abs(ratio - 1), Spoken(samples, sample_rate_hz, wpm / _NATURAL_WPM)))
            next_wpm = min(max(round(wpm * ratio), slowest), fastest)
            if abs(ratio - 1) <= _NEAR or next_wpm == wpm:
                break
            wpm = next_wpm
        return min(tries, key=lambda tried: tried[0])[1]

    def _say(self, text: str, speaker: str, wpm: int) -> tuple[Samples, int]:
        """Samples (n_samples,) without the silence around them, and their rate in Hz."""
        command = [self._program, "-b", "1", "-v", speaker, "-s", str(wpm), "--stdin", "--stdout"]
        try:
            done = subprocess.run(  # noqa: S603  # nosec B603 - speakers are checked, texts come by stdin
                command, input=text.encode(), capture_output=True, check=False, timeout=self._options.timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise ModelFailed(Stage.TTS, f"espeak-ng took longer than {self._options.timeout_s:g} s") from error
        if done.returncode != 0 or not done.stdout:
            reason = done.stderr.decode(errors="replace").strip()[:200]
            raise SynthesisFailed(Stage.TTS, f"espeak-ng ended with {done.returncode}: {reason}")
        with wave.open(io.BytesIO(done.stdout)) as wav:
            sample_rate_hz = wav.getframerate()
            # The header of a WAV on a pipe claims 2 GB: ask for no more than there is.
            data = wav.readframes(len(done.stdout) // wav.getsampwidth())
        samples = np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(2**15)
        return pcm.trim_silence(samples, sample_rate_hz), sample_rate_hz


def _speaker(voice: Voice) -> str:
    return voice.speaker or voice.language
