"""From a `stream:init` and what the models can do to the stream's settings, or to the reason why not. PURE.

Protocol: `stream:init`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deployments.contracts.values import AsrCapabilities, AudioFormat, TranslationCapabilities, TtsCapabilities
from serve_app.protocol import Capabilities, ErrorCode, StreamInit, WireError, base_language
from serve_app.stream.values import StreamLimits, StreamSettings

ANY = "*"
DEFAULT_VOICE = "default"


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What the three deployments can do together."""

    asr: AsrCapabilities
    translation: TranslationCapabilities
    tts: TtsCapabilities

    @property
    def wire(self) -> Capabilities:
        """As `stream:ready` tells it."""
        return Capabilities(
            asr_model=self.asr.model, translation_model=self.translation.model, tts_model=self.tts.model
        )


def negotiate(
    init: StreamInit, abilities: ModelCapabilities, limits: StreamLimits, *, session_id: str, wall_offset_s: float
) -> StreamSettings:
    """Agree on a stream.

    Raises:
        WireError: UNSUPPORTED_LANGUAGE_PAIR or INVALID_VOICE_PROFILE, with what was sent and what is allowed.
    """
    config = init.config
    source, target = base_language(config.source_language), base_language(config.target_language)
    _check_pair(source, target, abilities)
    timeout_ms = init.timeout_ms or limits.timeout_ms
    return StreamSettings(
        stream_id=init.stream_id,
        session_id=session_id,
        worker_id=init.worker_id,
        source_language=source,
        target_language=target,
        voice=_voice(config.voice_profile, target, abilities.tts),
        hints=config.hints,
        output=AudioFormat(config.format, config.sample_rate_hz, config.channels),
        chunk_duration_ms=config.chunk_duration_ms,
        max_inflight=init.max_inflight or limits.max_inflight,
        timeout_ms=timeout_ms,
        first_sequence_number=init.first_sequence_number,
        wall_offset_s=wall_offset_s,
        faster_voice=_default_voice(target, abilities.tts.faster_voices) or "",
        faster_needs_ms=min(abilities.tts.faster_needs_ms, timeout_ms // 2),
    )


def _check_pair(source: str, target: str, abilities: ModelCapabilities) -> None:
    heard, pairs = abilities.asr.languages, abilities.translation.pairs
    spoken = {language for language in abilities.tts.voices.values() if language != ANY}
    speaks_any = ANY in abilities.tts.voices.values()
    if (
        (heard is None or source in heard)
        and (pairs is None or (source, target) in pairs)
        and (speaks_any or target in spoken)
        and (source != target or pairs is None)
    ):
        return
    if pairs is not None:
        usable = {(s, t) for s, t in pairs if (heard is None or s in heard) and (speaks_any or t in spoken)}
        allowed = _listed(f"{s}→{t}" for s, t in usable)
    else:
        allowed = f"from {_listed(heard) if heard else 'any language'} to {_listed(spoken)}"
    raise WireError(
        ErrorCode.UNSUPPORTED_LANGUAGE_PAIR,
        f"config.source_language, config.target_language: {source}→{target} is not possible here; allowed: {allowed}",
        {
            "field": "config.target_language" if heard is None or source in heard else "config.source_language",
            "sent": f"{source}→{target}",
            "allowed": allowed,
        },
    )


def _voice(profile: str, target: str, tts: TtsCapabilities) -> str:
    fitting = [name for name, language in tts.voices.items() if language in (target, ANY)]
    if profile in fitting:
        return profile
    if profile == DEFAULT_VOICE:
        default = _default_voice(target, tts.default_voices)
        if default is not None:
            return default
    allowed = _listed([*fitting, *([DEFAULT_VOICE] if _default_voice(target, tts.default_voices) else [])])
    raise WireError(
        ErrorCode.INVALID_VOICE_PROFILE,
        f"config.voice_profile: {profile!r} is no voice for {target}; allowed: {allowed}",
        {"field": "config.voice_profile", "sent": profile, "allowed": allowed},
    )


def _default_voice(target: str, defaults: Mapping[str, str]) -> str | None:
    return defaults.get(target) or defaults.get(ANY)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
