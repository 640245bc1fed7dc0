"""From an `audio:start` and what the models can do to a session's settings, or to the reason why not. PURE.

Protocol: `audio:start`.
"""

from deployments.contracts.values import AsrCapabilities, TranslationCapabilities
from serve_app.protocol import ErrorCode, TranscriptionConfig, WireError, base_language
from serve_app.transcription.settings import TranscriptionSettings


def settings_of(config: TranscriptionConfig) -> TranscriptionSettings:
    """What the core is asked for."""
    return TranscriptionSettings(
        language=base_language(config.source_language),
        hints=config.hints,
        interims=config.interims,
        endpointing_ms=config.endpointing_ms,
    )


def check_languages(config: TranscriptionConfig, asr: AsrCapabilities, translation: TranslationCapabilities) -> None:
    """Whether the models know the language that is spoken, and each one that it is to be translated into.

    Raises:
        WireError: UNSUPPORTED_LANGUAGE or UNSUPPORTED_LANGUAGE_PAIR, with what was sent and what is allowed.
    """
    source = base_language(config.source_language)
    if not asr.hears(source):
        allowed = ", ".join(sorted(asr.languages or ()))
        raise WireError(
            ErrorCode.UNSUPPORTED_LANGUAGE,
            f"config.source_language: {source} is not recognised here; allowed: {allowed}",
            {"field": "config.source_language", "sent": config.source_language, "allowed": allowed},
        )
    pairs = translation.pairs
    for target in config.translate_to:
        base = base_language(target)
        if base == source or (pairs is not None and (source, base) not in pairs):
            offered = None if pairs is None else sorted(to for one, to in pairs if one == source)
            allowed = f"any but {source}" if offered is None else ", ".join(offered) or "none"
            raise WireError(
                ErrorCode.UNSUPPORTED_LANGUAGE_PAIR,
                f"config.translate_to: {source}→{base} is not possible here; allowed: {allowed}",
                {"field": "config.translate_to", "sent": target, "allowed": allowed},
            )
