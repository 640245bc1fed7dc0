"""Languages as people name them, as the protocol's tags. PURE."""

from functools import cache

from babel import Locale, UnknownLocaleError

_AUTONYMS = (
    "ar bg ca cs da de el en es et fi fr he hi hr hu id it ja ko lt lv nl no pl pt ro ru sk sl sr sv th tr uk vi zh"
)
"""Languages that may be given by their own name."""


class UnknownLanguage(Exception):
    """Neither a tag nor a name: says what was given and what would do."""


def tag_of(text: str) -> str:
    """The BCP-47 tag of a language that is given as a tag, or by its name in English or in itself.

    Raises:
        UnknownLanguage: no language is called so.
    """
    named = _names().get(text.strip().casefold())
    if named is not None:
        return named
    base = text.partition("-")[0].lower()
    if base in Locale("en").languages and all(part.isalnum() and part.isascii() for part in text.split("-")):
        return text
    raise UnknownLanguage(f"{text!r} is no language: give a tag such as es or pt-BR, or a name such as Spanish")


@cache
def _names() -> dict[str, str]:
    """Tags by the names of languages, folded."""
    names = {name.casefold(): tag for tag, name in Locale("en").languages.items() if "_" not in tag}
    for tag in _AUTONYMS.split():
        try:
            own = Locale(tag).get_display_name(tag)
        except UnknownLocaleError:  # a build of Babel without it
            continue
        if own:
            names.setdefault(own.casefold(), tag)
    return names
