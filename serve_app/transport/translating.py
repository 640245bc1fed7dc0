"""Finals of a live session into other languages, several at once. One that fails costs the others nothing."""

import asyncio

from deployments.contracts.values import FragmentRef, TranslateRequest
from deployments.errors import StageError
from serve_app.protocol import base_language
from serve_app.stream.translation_context import TranslationContext
from serve_app.transcription import TranscriptionSettings
from serve_app.transcription.captions import Translated
from serve_app.transport.transcriber import Ask, answered

TIMEOUT_MS = 5000
"""For one final: a caption that comes later than this stands under another picture."""


class Translating:
    """The translations of one session.

    Args:
        ask: the models.
        session_id: whose turns they take.
        settings: of the session.
        languages: into which.
    """

    def __init__(self, ask: Ask, session_id: str, settings: TranscriptionSettings, languages: list[str]) -> None:
        self._ask = ask
        self._session_id = session_id
        self._settings = settings
        self._languages = tuple(dict.fromkeys(languages))
        self._context = TranslationContext()
        self._count = 0

    def start(self, text: str) -> asyncio.Task[Translated] | None:
        """Translate what was said next; None: there is nothing to translate, or into no language."""
        if not self._languages or not text:
            return None
        self._count += 1
        context = self._context.before(self._count)
        self._context.note(self._count, text)
        name = f"translation {self._session_id} {self._count}"
        return asyncio.create_task(self._translate(self._count, text, context), name=name)

    async def _translate(self, number: int, text: str, context: str) -> Translated:
        requests = [
            TranslateRequest(
                ref=FragmentRef(self._session_id, str(number), number),
                text=text,
                source_language=self._settings.language,
                target_language=base_language(language),
                hints=self._settings.hints,
                context=context,
                budget_ms=TIMEOUT_MS,
            )
            for language in self._languages
        ]
        answers = await asyncio.gather(*(answered(self._ask, one, self._session_id) for one in requests))
        found = Translated()
        for language, answer in zip(self._languages, answers, strict=True):
            if isinstance(answer, StageError):
                found.failures[language] = answer
            else:
                found.texts[language] = answer.text
        return found
