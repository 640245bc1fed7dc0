"""What every engine's options share."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


class EngineOptions(BaseModel):
    """Base of the options that pick and set up an engine. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    measured_ms: ClassVar[int | None] = 2000
    """How long a sound a replica measures itself with at its start; longer ones then count in proportion. None: not at
    all, since each call costs money."""

    concurrency: int = Field(default=1, ge=1, le=256)
    """Calls that may compute at once in one replica."""
    slowdown: float = Field(default=1.0, ge=1.0, le=100.0)
    """For rehearsals: each call of the model takes so many times as long as it would."""
