"""What of a translation reaches a voice."""

import pytest

from deployments.errors import InvalidText, Stage
from deployments.tts.text_normalization import plain_text


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hola, ¿qué tal?", "Hola, ¿qué tal?"),
        ("  dos\nlíneas\t y  más ", "dos líneas y más"),
        ("¡Gol! 🎉⚽️ 👩‍👩‍👧", "¡Gol!"),
        ("20 °C, 5 €, 3 + 4 %", "20 °C, 5 €, 3 + 4 %"),
        ("[[h@'ola]] <b>ya</b>", "h@'ola b ya /b"),
        ("cafe\u0301\x00\u200b", "café"),
    ],
)
def test_only_what_a_voice_can_say_is_kept(text, spoken):
    assert plain_text(text) == spoken


@pytest.mark.parametrize("text", ["", "   ", "...", "¿?¡!", "🎉🎉", "♪ ♪", "[[]]", "\u200b\ufe0f"])
def test_text_without_letters_and_digits_is_refused(text):
    with pytest.raises(InvalidText) as caught:
        plain_text(text)
    assert caught.value.stage is Stage.TTS
    assert not caught.value.retryable
