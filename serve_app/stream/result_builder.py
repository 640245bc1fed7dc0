"""From the pipeline's outcome to the `fragment:processed` that a worker gets. PURE.

Protocol: `fragment:processed`; Nothing to say.
"""

from deployments.contracts.values import FILL_MODEL, Outcome, Segment
from serve_app.protocol import (
    Assets,
    AudioAsset,
    DubbedAudio,
    FragmentError,
    FragmentMetrics,
    FragmentProcessed,
    StageTimings,
    TranscriptAsset,
    TranscriptSegment,
    TranslationAsset,
    WordTiming,
)
from serve_app.stream.values import Fragment, StreamSettings

DECLARED_TOLERANCE = 0.10
"""Declared and decoded duration may differ by this share of the decoded one."""
DECLARED_WRONG = "duration_declared_wrong"
REPETITION_LEFT_OUT = "repetition_left_out"


def original_duration_ms(fragment: Fragment, outcome: Outcome) -> int:
    """The decoded duration; the declared one when decoding never happened."""
    return outcome.transcript.duration_ms if outcome.transcript else fragment.declared_duration_ms


def present(
    settings: StreamSettings, fragment: Fragment, outcome: Outcome, *, ticket: int, start_ms: int, processing_ms: int
) -> FragmentProcessed:
    """Build the result event.

    Args:
        settings: of the stream.
        fragment: the fragment as it was accepted; its sequence_number is that of the result.
        outcome: what the pipeline made of it.
        ticket: makes the assets' ids unique within the session.
        start_ms: where the fragment starts on the stream's timeline.
        processing_ms: from acceptance to now.
    """
    transcript, translation, speech, failure = outcome.transcript, outcome.translation, outcome.speech, outcome.failure
    translated = translation.text if translation else None
    if translated is None and speech is not None:
        translated = ""
    audio = speech.audio if speech and failure is None else None
    return FragmentProcessed(
        fragment_id=fragment.fragment_id,
        stream_id=settings.stream_id,
        sequence_number=fragment.sequence_number,
        status="failed" if failure else "partial" if speech and speech.partial else "success",
        dubbed_audio=DubbedAudio(
            format=audio.format.container,
            sample_rate_hz=audio.format.sample_rate_hz,
            channels=audio.format.channels,
            duration_ms=speech.duration_ms,
            data=audio.data,
        )
        if audio and speech
        else None,
        transcript=transcript.recognition.text if transcript else None,
        translated_text=translated,
        processing_time_ms=processing_ms,
        stage_timings=StageTimings(
            asr_ms=transcript.elapsed_ms if transcript else 0,
            translation_ms=translation.elapsed_ms if translation else 0,
            tts_ms=speech.elapsed_ms if speech else 0,
        ),
        warnings=_warnings(fragment, outcome) or None,
        error=FragmentError(
            stage=failure.stage.value, code=failure.code, message=failure.message, retryable=failure.retryable
        )
        if failure
        else None,
        metadata=_metrics(fragment, outcome),
        assets=_assets(settings, fragment, outcome, f"{settings.session_id}:{ticket}", start_ms),
    )


def _warnings(fragment: Fragment, outcome: Outcome) -> tuple[str, ...]:
    warnings = (*outcome.warnings, *(outcome.speech.warnings if outcome.speech else ()))
    if outcome.transcript:
        decoded_ms = outcome.transcript.duration_ms
        if abs(decoded_ms - fragment.declared_duration_ms) > DECLARED_TOLERANCE * decoded_ms:
            warnings = (*warnings, DECLARED_WRONG)
        if outcome.transcript.recognition.repeats:
            warnings = (*warnings, REPETITION_LEFT_OUT)
    return warnings


def _metrics(fragment: Fragment, outcome: Outcome) -> FragmentMetrics:
    speech, failure = outcome.speech, outcome.failure
    original_ms = original_duration_ms(fragment, outcome)
    details = failure.details if failure else {}
    dubbed_ms = speech.duration_ms if speech else details.get("dubbed_duration_ms")
    variance = speech.variance_percent if speech else details.get("actual_variance_percent")
    ratio = speech.speed_ratio if speech else details.get("speed_ratio")
    return FragmentMetrics(
        original_duration_ms=original_ms,
        dubbed_duration_ms=None if dubbed_ms is None else round(float(dubbed_ms)),
        duration_variance_percent=None if variance is None else round(float(variance), 2),
        actual_variance_percent=round(float(variance), 2)
        if variance is not None and (failure or (speech and speech.partial))
        else None,
        speed_ratio=None if ratio is None else round(float(ratio), 4),
        asr_model=outcome.transcript.model if outcome.transcript else None,
        translation_model=outcome.translation.model if outcome.translation else None,
        tts_model=speech.model if speech else None,
        synthetic_voice=speech.model != FILL_MODEL if speech else None,
        may_be_sold=speech.may_be_sold if speech else None,
    )


def _assets(settings: StreamSettings, fragment: Fragment, outcome: Outcome, prefix: str, start_ms: int) -> Assets:
    parent = fragment.fragment_id
    transcript = translation = audio = None
    if outcome.transcript:
        recognition = outcome.transcript.recognition
        transcript = TranscriptAsset(
            asset_id=f"{prefix}:transcript",
            parent_asset_ids=(parent,),
            language=recognition.language,
            segments=tuple(_segment(segment, start_ms) for segment in recognition.segments),
        )
        parent = transcript.asset_id
    if outcome.translation:
        translation = TranslationAsset(
            asset_id=f"{prefix}:translation",
            parent_asset_ids=(parent,),
            source_language=settings.source_language,
            target_language=settings.target_language,
        )
        parent = translation.asset_id
    if outcome.speech:
        audio = AudioAsset(
            asset_id=f"{prefix}:audio", parent_asset_ids=(parent,), duration_ms=outcome.speech.duration_ms
        )
    return Assets(transcript=transcript, translation=translation, audio=audio)


def _segment(segment: Segment, start_ms: int) -> TranscriptSegment:
    return TranscriptSegment(
        start_ms=start_ms + segment.start_ms,
        end_ms=start_ms + segment.end_ms,
        text=segment.text,
        confidence=segment.confidence,
        words=tuple(
            WordTiming(
                text=word.text,
                start_ms=start_ms + word.start_ms,
                end_ms=start_ms + word.end_ms,
                confidence=word.confidence,
            )
            for word in segment.words
        )
        or None,
    )
