"""Other ingress replicas hear of every stream that opens."""

import asyncio

from structlog.testing import capture_logs

from serve_app.operations.siblings import Siblings
from serve_app.transport.registry import Opening


async def all_announced() -> None:
    """Whatever goes on in the background is over."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others)


class Replicas:
    """All replicas of the Ingress, by their handle."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers
        self.asked: list[tuple[object, ...]] = []

    def broadcast(self, method: str, *args: object) -> "Replicas":
        self.asked.append((method, *args))
        self._answer = self._answers[method]
        return self

    async def results_async(self, *, return_exceptions: bool) -> object:
        assert return_exceptions
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Told:
    """The sockets of a replica, where one stream is open."""

    def __init__(self) -> None:
        self.expelled: list[Opening] = []
        self.gone = False

    def settle(self, stream_id: str, session_id: str, others: list[int]) -> Opening | None:
        return None if self.gone else Opening(stream_id, session_id, 1 + max(others, default=0), "subject")

    def expel(self, opening: Opening) -> None:
        self.expelled.append(opening)


async def announce(replicas: Replicas, *, gone: bool = False) -> tuple[Told, list[str]]:
    sockets = Told()
    sockets.gone = gone
    siblings = Siblings(lambda: replicas, sockets)
    with capture_logs() as logged:
        await siblings.opened("radio", "session")
        await all_announced()
    return sockets, [line["question"] for line in logged]


async def test_a_stream_takes_the_number_after_the_largest_and_is_told_with_it():
    replicas = Replicas(epoch=[0, 4, 2], let_go=[True, True, True])
    sockets, warned = await announce(replicas)
    assert replicas.asked == [("epoch", "radio"), ("let_go", "radio", "session", 5, "subject")]
    assert (sockets.expelled, warned) == ([], [])


async def test_where_another_subject_has_the_stream_it_ends_here():
    sockets, _ = await announce(Replicas(epoch=[1, 1], let_go=[True, False]))
    assert sockets.expelled == [Opening("radio", "session", 2, "subject")]


async def test_replicas_that_die_or_do_not_answer_keep_no_other_from_being_told():
    replicas = Replicas(epoch=[RuntimeError("dead"), 4], let_go=[True, RuntimeError("dead"), True])
    sockets, warned = await announce(replicas)
    assert replicas.asked[-1] == ("let_go", "radio", "session", 5, "subject")
    assert (sockets.expelled, warned) == ([], ["epoch", "let_go"])
    replicas = Replicas(epoch=TimeoutError(), let_go=TimeoutError())
    sockets, warned = await announce(replicas)
    assert replicas.asked[-1] == ("let_go", "radio", "session", 1, "subject")
    assert (sockets.expelled, warned) == ([], ["epoch", "let_go"])


async def test_a_stream_that_ended_meanwhile_is_told_to_nobody():
    replicas = Replicas(epoch=[0, 0])
    await announce(replicas, gone=True)
    assert replicas.asked == [("epoch", "radio")]


async def test_a_stream_is_ready_once_it_has_its_number_or_others_are_long_in_answering(monkeypatch):
    """So whoever opens the stream after that comes after it, also on another replica."""
    answered = asyncio.Event()

    class Slow(Replicas):
        async def results_async(self, *, return_exceptions: bool) -> object:
            await answered.wait()
            return await super().results_async(return_exceptions=return_exceptions)

    replicas = Slow(epoch=[0], let_go=[True])
    siblings = Siblings(lambda: replicas, Told())
    telling = asyncio.create_task(siblings.opened("radio", "session"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not telling.done()
    answered.set()
    await telling
    answered.clear()
    monkeypatch.setattr("serve_app.operations.siblings.NUMBERED_WITHIN_S", 0.001)
    await siblings.opened("radio", "session")
    answered.set()
    await all_announced()
