import pytest

from serve_app.protocol import FORMATS, MAX_MESSAGE_BYTES, Format, base_language


@pytest.mark.parametrize(("tag", "base"), [("en", "en"), ("en-US", "en"), ("PT-br", "pt"), ("zh-Hant-TW", "zh")])
def test_the_base_language_of_a_tag(tag: str, base: str) -> None:
    assert base_language(tag) == base


def test_the_formats_that_are_told_are_those_that_are_taken() -> None:
    assert Format.__args__ == FORMATS


def test_a_message_may_hold_16_mib() -> None:
    assert MAX_MESSAGE_BYTES == 16 * 1024 * 1024
