from serve_app.stream.translation_context import MAX_FRAGMENTS, TranslationContext


def test_context_is_what_lower_numbers_said_in_order_however_they_came() -> None:
    said = TranslationContext()
    for number, text in [(2, "two"), (0, "zero"), (1, ""), (3, "three")]:
        said.note(number, text)
    assert said.before(3) == "zero two"
    assert said.before(0) == ""


def test_only_the_last_fragments_are_remembered() -> None:
    said = TranslationContext()
    for number in range(MAX_FRAGMENTS + 2):
        said.note(number, str(number))
    assert said.before(100) == " ".join(str(number) for number in range(2, MAX_FRAGMENTS + 2))
