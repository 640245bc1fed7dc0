"""How espeak-ng is asked for a duration; the program here is a stand-in whose words take as long as they should."""

import io
import subprocess
import wave

import numpy as np
import pytest

from deployments.contracts.engines import Line
from deployments.contracts.values import FragmentRef, Voice
from deployments.errors import InvalidText, ModelFailed, SynthesisFailed
from deployments.tts import espeak
from deployments.tts.espeak import EspeakOptions

RATE_HZ = 22_050
VOICE = Voice("spanish", "espeak", "es", "es-419")


class Program:
    """Stands in for `subprocess.run`."""

    def __init__(self, natural_s=3.0, amplitude=8000):
        self.natural_s, self.amplitude = natural_s, amplitude
        self.commands, self.texts = [], []

    def __call__(self, command, *, input, timeout, **_):  # noqa: A002 - subprocess's name
        self.commands.append(command)
        self.texts.append(input.decode())
        wpm = int(command[command.index("-s") + 1])
        samples = np.full(round(self.natural_s * 175 / wpm * RATE_HZ), self.amplitude, "<i2")
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as wav:
            wav.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            wav.writeframes(samples.tobytes())
        data = bytearray(buffer.getvalue())
        data[40:44] = (0x7FFFF000).to_bytes(4, "little")  # as espeak-ng writes it to a pipe
        return subprocess.CompletedProcess(command, 0, bytes(data), b"")


def engine(monkeypatch, program, /, **options):
    monkeypatch.setattr(espeak.subprocess, "run", program)
    built = EspeakOptions(**options).build()
    built._program = "/usr/bin/espeak-ng"
    return built


def line(target_ms, text="hola a todos"):
    return Line(FragmentRef("s", "f", 0), text, VOICE, target_ms)


@pytest.mark.parametrize(("target_ms", "n_tries"), [(3000, 1), (2000, 2), (3500, 2)])
def test_the_rate_that_hits_the_target_is_found_by_trying(monkeypatch, target_ms, n_tries):
    program = Program()
    spoken = engine(monkeypatch, program).speak(line(target_ms))
    assert len(spoken.samples) * 1000 / RATE_HZ == pytest.approx(target_ms, rel=0.01)
    assert spoken.rate == pytest.approx(3000 / target_ms, rel=0.01)
    assert len(program.commands) == n_tries


@pytest.mark.parametrize(("target_ms", "rate"), [(500, 2.0), (30_000, 0.8)])
def test_the_rate_stays_within_its_limits(monkeypatch, target_ms, rate):
    program = Program()
    assert engine(monkeypatch, program).speak(line(target_ms)).rate == pytest.approx(rate, abs=0.005)
    assert len(program.commands) == 2


def test_the_text_goes_in_by_stdin_and_can_give_no_commands(monkeypatch):
    program = Program()
    engine(monkeypatch, program).speak(line(3000, "--version [[h@l'oU]] <voice name='x'>"))
    assert program.commands[0] == ["/usr/bin/espeak-ng", "-b", "1", "-v", "es-419", "-s", "175", "--stdin", "--stdout"]
    assert program.texts[0] == "--version h@l'oU voice name='x'"


def test_nothing_to_say_is_invalid_text(monkeypatch):
    program = Program()
    with pytest.raises(InvalidText):
        engine(monkeypatch, program).speak(line(1000, "?!"))
    assert program.commands == []


def test_silence_is_a_failure(monkeypatch):
    with pytest.raises(SynthesisFailed):
        engine(monkeypatch, Program(amplitude=0)).speak(line(1000))


def test_a_program_that_hangs_is_ended_and_the_fragment_may_be_tried_again(monkeypatch):
    def hang(command, *, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    with pytest.raises(ModelFailed, match=r"longer than 2\.5 s"):
        engine(monkeypatch, hang, timeout_s=2.5).speak(line(1000))


def test_a_missing_program_names_its_package():
    with pytest.raises(FileNotFoundError, match="apt-get install espeak-ng"):
        EspeakOptions(program="espeak-of-nowhere").build().load({VOICE.name: VOICE})


@pytest.mark.parametrize("speaker", ["--help", "../../x;y", "a b"])
def test_a_speaker_that_is_no_name_is_refused(monkeypatch, speaker):
    built = engine(monkeypatch, Program(), program="true")
    with pytest.raises(ValueError, match="voice 'odd'"):
        built.load({"odd": Voice("odd", "espeak", "es", speaker)})


def test_a_speaker_that_the_program_does_not_know_is_refused(monkeypatch):
    def refuse(command, **_):
        return subprocess.CompletedProcess(command, 1, b"", b"Error: The specified espeak-ng voice does not exist.\n")

    built = engine(monkeypatch, refuse, program="true")
    with pytest.raises(ValueError, match="voice 'odd': espeak-ng has no voice 'xx'"):
        built.load({"odd": Voice("odd", "espeak", "es", "xx")})
