"""faster-whisper's model, hearing several fragments in one encoder and decoder call. Importing this loads CTranslate2.

faster-whisper's own `transcribe` hears one recording, window after window, and its BatchedInferencePipeline the
windows of one. Here the windows that several fragments are at go through the model together, which is worth most on a
GPU; what is done with a window's tokens is faster-whisper's own, so the text is the same.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import (
    Segment,
    Word,
    get_compression_ratio,
    get_suppressed_tokens,
    restore_speech_timestamps,
)
from faster_whisper.utils import get_end
from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps

from deployments.asr.clips import FULL_WINDOW_FRAMES, Aligned, Clip, Hearing, Passage
from deployments.asr.postprocess import is_doubtful, is_no_speech
from deployments.contracts.engines import ASR_RATE_HZ

SHORT_WINDOW_FRAMES = 1500
"""15 s. Most of a live fragment's time would go into encoding the padding up to 30 s."""

_TASK = "transcribe"
_PREPENDED, _APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word after it, or before it."""
_MAX_INITIAL_TIMESTAMP_INDEX = 50
"""The first thing said begins within 1 s of the window."""
_ENDLESS_HINT = "name " * 448
"""More tokens than a prompt has room for; the rest is cut off, as from any hints."""
_TAIL_FRAMES = 200
"""What doubtful text Whisper finds in the last 2 s, after all that it heard, is its invention."""


class BatchWhisper(WhisperModel):  # type: ignore[misc]  # faster-whisper has no types
    """Whisper for several clips at once.

    `transcribe`, which it inherits, hears one recording in windows of 30 s.

    Args:
        model: a directory or a name that faster-whisper knows.
        beam_size: hypotheses that decoding keeps.
        word_timestamps: whether to tell when each word was said.
        gate: options of Silero VAD, of whose finding only speech is heard; None: everything is heard.
        settings: of WhisperModel.
    """

    def __init__(
        self, model: str, *, beam_size: int, word_timestamps: bool, gate: dict[str, int] | None, **settings: Any
    ) -> None:
        super().__init__(model, **settings)
        self.window_frames = SHORT_WINDOW_FRAMES
        """What fits is encoded as so many frames, all else as 3000; may change between calls."""
        self._beam_size = beam_size
        self._word_timestamps = word_timestamps
        self._gate = gate
        self._tokenizers: dict[str, Tokenizer] = {}

    def hear(self, clips: Sequence[Clip], preparers: ThreadPoolExecutor | None = None) -> list[Hearing]:
        """Hear clips, one entry each, in order. `preparers` run the gate and the features of several at a time."""
        hearings = list(preparers.map(self._prepare, clips) if preparers else map(self._prepare, clips))
        pending = [hearing for hearing in hearings if hearing.n_frames]
        shape = partial(_shape, self.window_frames)
        while pending:
            pending.sort(key=shape)
            for (_, frames), alike in groupby(pending, key=shape):
                self._hear_window(list(alike), frames)
            pending = [hearing for hearing in pending if hearing.seek < hearing.n_frames and not hearing.doubtful]
        return hearings

    @staticmethod
    def told(hearing: Hearing) -> Iterable[Segment]:
        """Its segments, in seconds of the clip."""
        if not hearing.speech_chunks:
            return hearing.segments
        restored: Iterable[Segment] = restore_speech_timestamps(hearing.segments, hearing.speech_chunks, ASR_RATE_HZ)
        return restored

    def fill(self, n_clips: int) -> None:
        """Compute the most that a call with so many clips can: full windows, behind as many hints as Whisper takes.

        Decoding ends with its last token, 448 with the prompt: no fragment is let come so far.
        """
        n_mels = self.feature_extractor.mel_filters.shape[0]
        noise = np.random.default_rng(0).normal(size=(n_clips, n_mels, FULL_WINDOW_FRAMES)).astype(np.float32)
        encoded = self.encode(noise)
        tokenizer = self._tokenizer("en")
        results = self.model.generate(
            encoded,
            [self.get_prompt(tokenizer, [], hotwords=_ENDLESS_HINT)] * n_clips,
            beam_size=self._beam_size,
            max_length=self.max_length,
            suppress_tokens=[*get_suppressed_tokens(tokenizer, [-1]), tokenizer.eot],
            return_scores=True,
            return_no_speech_prob=True,
        )
        if self._word_timestamps:
            texts = [[token for token in result.sequences_ids[0] if token < tokenizer.eot] for result in results]
            self.model.align(encoded, tokenizer.sot_sequence, texts, [FULL_WINDOW_FRAMES] * n_clips)

    def release_memory(self) -> None:
        """Give the device's cached memory back. No call may run meanwhile.

        CTranslate2 empties its allocator's cache only when a model is unloaded, so the weights go to the CPU and back.
        """
        self.model.unload_model(to_cpu=True)
        self.model.load_model()

    def _tokenizer(self, language: str) -> Tokenizer:
        if language not in self._tokenizers:
            multilingual = self.model.is_multilingual
            self._tokenizers[language] = Tokenizer(self.hf_tokenizer, multilingual, task=_TASK, language=language)
        return self._tokenizers[language]

    def _prepare(self, clip: Clip) -> Hearing:
        samples, chunks = clip.samples, []
        if self._gate is not None:
            chunks = get_speech_timestamps(samples, VadOptions(**self._gate))
            samples = np.concatenate(collect_chunks(samples, chunks)[0])
        if len(samples):
            features = self.feature_extractor(samples)
        else:
            features = np.zeros((self.feature_extractor.mel_filters.shape[0], 0), np.float32)
        tokenizer = self._tokenizer(clip.language)
        prompt = self.get_prompt(tokenizer, [], hotwords=clip.hints or None)
        return Hearing(clip, tokenizer, prompt, features, chunks)

    def _hear_window(self, hearings: Sequence[Hearing], frames: int) -> None:
        windows = [
            pad_or_trim(hearing.features[:, hearing.seek : hearing.seek + hearing.window_frames], frames)
            for hearing in hearings
        ]
        encoded = self.encode(np.stack(windows).astype(np.float32, copy=False))
        results = self.model.generate(
            encoded,
            [hearing.prompt for hearing in hearings],
            beam_size=self._beam_size,
            max_length=min(
                len(hearings[0].prompt) + max(hearing.clip.max_new_tokens for hearing in hearings), self.max_length
            ),
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(hearings[0].tokenizer, [-1]),
            max_initial_timestamp_index=_MAX_INITIAL_TIMESTAMP_INDEX,
            return_scores=True,
            return_no_speech_prob=True,
        )
        passages = [self._passage(hearing, result) for hearing, result in zip(hearings, results, strict=True)]
        if self._word_timestamps:
            self._time_words(passages, encoded)
        for passage in filter(None, passages):
            passage.hearing.segments.extend(self._segments(passage))

    def _passage(self, hearing: Hearing, result: Any) -> Passage | None:
        """A window's text, cut at its timestamps; None: no speech, or none that can be believed."""
        tokens = result.sequences_ids[0]
        log_probability = result.scores[0] * len(tokens) / (len(tokens) + 1)
        n_frames, start_frame = hearing.window_frames, hearing.seek
        if is_no_speech(result.no_speech_prob, log_probability):
            hearing.seek += n_frames
            return None
        compression_ratio = get_compression_ratio(hearing.tokenizer.decode(tokens).strip())
        if len(tokens) >= hearing.clip.max_new_tokens or is_doubtful(log_probability, compression_ratio):
            hearing.seek += n_frames
            hearing.doubtful = not (start_frame and n_frames <= _TAIL_FRAMES)
            return None
        segments, seek, ends_in_silence = self._split_segments_by_timestamps(
            tokenizer=hearing.tokenizer,
            tokens=tokens,
            time_offset=start_frame / self.frames_per_second,
            segment_size=n_frames,
            segment_duration=n_frames / self.frames_per_second,
            seek=start_frame,
        )
        # What comes after the last timestamp is heard again from there. Nothing new: that was all.
        hearing.seek = seek if seek > start_frame else start_frame + n_frames
        return Passage(
            hearing=hearing,
            segments=segments,
            start_frame=start_frame,
            n_frames=n_frames,
            ends_in_silence=ends_in_silence,
            log_probability=log_probability,
            compression_ratio=compression_ratio,
            no_speech_probability=result.no_speech_prob,
        )

    def _time_words(self, passages: Sequence[Passage | None], encoded: Any) -> None:
        """Tell the words of all passages, aligning those of one language in one call."""
        n_frames = [passage.n_frames if passage else 1 for passage in passages]
        for language in {passage.hearing.clip.language for passage in passages if passage}:
            spoken = [
                passage if passage and passage.hearing.clip.language == language else None for passage in passages
            ]
            tokens = [_text_tokens(passage) if passage else [] for passage in spoken]
            aligned = self.find_alignment(self._tokenizer(language), tokens, encoded, n_frames)
            for passage, words in zip(spoken, aligned, strict=True):
                if passage is not None:
                    self._place_words(passage, words)

    def _place_words(self, passage: Passage, words: list[dict[str, Any]]) -> None:
        hearing = passage.hearing
        self.add_word_timestamps(
            [passage.segments],
            hearing.tokenizer,
            Aligned(words),
            passage.n_frames,
            _PREPENDED,
            _APPENDED,
            last_speech_timestamp=hearing.last_speech_s,
        )
        last_word_s = get_end(passage.segments)
        if last_word_s is None:
            return
        hearing.last_speech_s = last_word_s
        last_word_frame = round(last_word_s * self.frames_per_second)
        if not passage.ends_in_silence and last_word_frame > passage.start_frame:
            hearing.seek = last_word_frame

    def find_alignment(
        self, tokenizer: Tokenizer, text_tokens: list[list[int]], encoder_output: Any, num_frames: Any, *settings: Any
    ) -> list[list[dict[str, Any]]]:
        """When each word of each text is said, in seconds of its window.

        faster-whisper places the words of one recording in one go, carrying the time from text to text. So that the
        words of different clips can be aligned together and placed apart, what is aligned already is taken as it is.
        """
        if isinstance(encoder_output, Aligned):
            return [encoder_output.words]
        found: list[list[dict[str, Any]]] = super().find_alignment(
            tokenizer, text_tokens, encoder_output, num_frames, *settings
        )
        return found

    @staticmethod
    def _segments(passage: Passage) -> Iterable[Segment]:
        for segment in passage.segments:
            text = passage.hearing.tokenizer.decode(segment["tokens"])
            if segment["start"] == segment["end"] or not text.strip():
                continue
            yield Segment(
                id=0,
                seek=passage.start_frame,
                start=segment["start"],
                end=segment["end"],
                text=text,
                tokens=segment["tokens"],
                avg_logprob=passage.log_probability,
                compression_ratio=passage.compression_ratio,
                no_speech_prob=passage.no_speech_probability,
                words=[Word(**word) for word in segment["words"]] if "words" in segment else None,
                temperature=0.0,
            )


def _shape(short_window_frames: int, hearing: Hearing) -> tuple[int, int]:
    """What must be equal in one call: the decoder wants prompts of one length, the encoder windows of one."""
    fits = hearing.window_frames <= short_window_frames
    return len(hearing.prompt), short_window_frames if fits else FULL_WINDOW_FRAMES


def _text_tokens(passage: Passage) -> list[int]:
    return [
        token for segment in passage.segments for token in segment["tokens"] if token < passage.hearing.tokenizer.eot
    ]
