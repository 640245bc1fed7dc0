"""How many live streams the running replicas carry, by what each measured at its start. PURE.

The arithmetic is that of a plan. Each replica measured itself while the others started, and counts for the time that it
took; where stages share cores, what they compute together counts too, and the less of both is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.contracts.values import FRAGMENT_MS, Measured
from serve_app.planning.figures import INGRESS_MS, Figure, How
from serve_app.planning.plan import Demand, Work, carried
from serve_app.protocol import Machine, MeasuredTimes

UTILISATION = 0.8
"""How busy machines may be that still answer in time: Ray computes beside the models, and streams come unevenly."""
LIVE_MS = 8000
"""That a fragment of a live stream has, unless it says otherwise."""
_NECESSARY = ("Asr", "Tts")
"""Translation may be somebody else's service, which costs no time of this machine."""
_NOTHING = Figure(0.0, How.ESTIMATED, "not asked for")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas of one deployment."""

    running: int = 1
    num_gpus: float = 0.0
    """Of each."""


def machine(measured: Mapping[str, Measured | None], fleets: Mapping[str, Fleet], nodes: int = 1) -> Machine:
    """What `/ready` and `capabilities` tell.

    Args:
        measured: by deployment (Asr, Translation, Tts).
        fleets: likewise; one that is missing counts as one replica.
        nodes: how many machines there are; each is taken to have the cores of the smallest.
    """
    known = {name: found for name, found in measured.items() if found is not None}
    streams = None
    if all(name in known for name in _NECESSARY):
        ingress = Work("Ingress", INGRESS_MS, _NOTHING, cpu_ms=INGRESS_MS.value)
        replicas = [(ingress, max(1, nodes))]
        for name, found in known.items():
            fleet = fleets.get(name, Fleet())
            replicas.append((_work(name, found, fleet), max(1, fleet.running)))
        cores = max(1, nodes) * min(found.cores for found in known.values())
        streams = round(carried(replicas, cores, Demand(0, FRAGMENT_MS / 1000, UTILISATION)), 2)
    times = {
        f"{name.lower()}_{what}": value
        for name, found in known.items()
        for what, value in (("ms", found.fragment_ms), ("cpu_ms", found.cpu_ms))
    }
    return Machine(live_streams=streams, measured=MeasuredTimes(**times))


def _work(name: str, measured: Measured, fleet: Fleet) -> Work:
    return Work(
        name,
        Figure(max(measured.fragment_ms, 0.1), How.MEASURED, "at its start"),
        _NOTHING,
        num_gpus=fleet.num_gpus,
        cpu_ms=measured.cpu_ms,
        side_by_side=1 if fleet.num_gpus else measured.slots,  # what comes to a card at once shares its time
    )


def sentences(ready: Mapping[str, Any]) -> list[str]:
    """For people: what the body of `/ready` says of the machine, and what to do where that is too little."""
    told = Machine.model_validate({name: ready[name] for name in Machine.model_fields if name in ready})
    if told.live_streams is None:
        return []
    times = told.measured
    stages = (("recognise", times.asr_ms), ("translate", times.translation_ms), ("speak", times.tts_ms))
    taken = ", ".join(f"{ms:.0f} ms to {what}" for what, ms in stages if ms is not None)
    in_time = sum(ms or 0 for _, ms in stages) <= LIVE_MS
    if told.live_streams >= 1 and in_time:
        count = int(told.live_streams)
        return [f"this machine carries about {count} live stream{'s' * (count > 1)} (6 s of speech take {taken})"]
    why = f"{told.live_streams:g}" if in_time else f"one fragment takes longer than the {LIVE_MS / 1000:g} s it has"
    lines = [f"this machine carries less than one live stream ({why}; 6 s of speech take {taken})"]
    if (times.tts_ms or 0) > (times.asr_ms or 0):
        lines.append(
            "what its voice can't say in time is said by the faster one that tts.faster names, or fails where none is "
            "named; LIVEDUB_TTS__ENGINE=espeak has the fast voice say everything; what isn't live may take longer: "
            "LIVEDUB_STREAMS__TIMEOUT_MS"
        )
    return lines
