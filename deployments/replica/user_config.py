"""A replica's `user_config` as Serve hands it over: at the start, where the file gives one, and whenever it changes."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from deployments.logs import get_logger

C = TypeVar("C")
logger = get_logger(__name__)


class UserConfig(Generic[C]):
    """Reads what Serve hands over; a wrong value ends a start, and later changes nothing.

    Serve replaces a replica whose `reconfigure` raises, so a mistake made live would end what the replica is doing.

    Args:
        read: gives the configuration, or raises ValueError saying which field is wrong and what is allowed.
        refused: the event that is logged instead, once the replica has started.
    """

    def __init__(self, read: Callable[[Mapping[str, Any]], C], refused: str) -> None:
        self._read = read
        self._refused = refused
        self._started = False

    def healthy(self) -> None:
        """Note that Serve asks for the replica's health, which it does first when the start is over."""
        self._started = True

    def take(self, given: Mapping[str, Any]) -> C | None:
        """The configuration to apply; None: it is wrong, and what is in force stays.

        Raises:
            ValueError: it is wrong, and the replica has not started yet.
        """
        try:
            return self._read(given)
        except ValueError as error:
            if not self._started:
                raise
            logger.error(self._refused, error=str(error))  # noqa: TRY400 - the message says all
            return None
