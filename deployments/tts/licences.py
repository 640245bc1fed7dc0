"""Whether what a model says may be sold, by the model's licence. PURE."""

_MAY_BE_SOLD = {"kokoro-82m": True, "espeak-ng": True, "xtts_v2": False}
"""Apache-2.0; GPL, which says nothing of what a program makes; CPML."""


def may_be_sold(model: str) -> bool | None:
    """None: its licence is not known here."""
    return _MAY_BE_SOLD.get(model)
