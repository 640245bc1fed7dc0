"""The scaling of a deployment over hours: load that comes and goes, replicas that take time to load their model."""

from dataclasses import dataclass, field

import pytest

from deployments.replica.scaling import Load, ReplicaLoad, ScalingOptions, replicas_wanted

COMPUTING_S = 0.6
LOADING_S = 40.0
LOOK_BACK_S, UPSCALE_DELAY_S, DOWNSCALE_DELAY_S = 15, 10, 300
OPTIONS = ScalingOptions(target_ms=2000, target_busy=0.7, shrink_below=0.75)


@dataclass
class Deployment:
    """Replicas with one slot each, second by second, scaled after Serve's delays."""

    wobble: float = 0.0
    """Share by which the load goes up and down around its mean, in turns of ten seconds."""
    running: int = 1
    loading: list[float] = field(default_factory=list)
    """When each of those that load will run."""
    queue: float = 0.0
    now_s: float = 0.0
    changes: int = 0
    most_waited_s: float = 0.0
    _seen: list[tuple[float, float]] = field(default_factory=list)
    """Fragments that wait or compute, and busy replicas, of the last seconds."""
    _wish: tuple[int, float] = (0, 0.0)
    """Which way the last decisions went, and since when."""

    def run(self, per_s: float, seconds: int) -> None:
        """So many fragments a second, for so many seconds."""
        self.most_waited_s = 0.0
        for _ in range(seconds):
            self.now_s += 1
            ready = [at for at in self.loading if at <= self.now_s]
            self.running += len(ready)
            self.loading = [at for at in self.loading if at > self.now_s]
            swing = 1 + self.wobble * (1 if int(self.now_s / 10) % 2 else -1)
            self._second(per_s * swing)
            self._decide()

    def _second(self, arriving: float) -> None:
        done = min(self.queue + arriving, self.running / COMPUTING_S)
        self.queue += arriving - done
        computing = done * COMPUTING_S
        self.most_waited_s = max(self.most_waited_s, self.queue * COMPUTING_S / self.running)
        self._seen = [*self._seen, (self.queue + computing, computing)][-LOOK_BACK_S:]

    def _decide(self) -> None:
        fragments, computing = (sum(column) / len(self._seen) for column in zip(*self._seen, strict=True))
        busy = min(1.0, computing / self.running)
        told = (ReplicaLoad(busy, 1, COMPUTING_S * 1000),) * self.running
        target = self.running + len(self.loading)
        wanted = replicas_wanted(Load(fragments, told), OPTIONS, self.running, target)
        way = (wanted > target) - (wanted < target)
        if way != self._wish[0]:
            self._wish = (way, self.now_s)
        delay_s = UPSCALE_DELAY_S if way > 0 else DOWNSCALE_DELAY_S
        if not way or self.now_s - self._wish[1] < delay_s:
            return
        self.changes += 1
        self._wish = (0, self.now_s)
        if wanted > target:
            self.loading += [self.now_s + LOADING_S] * (wanted - target)
        else:
            self.running = max(1, wanted)


@pytest.mark.parametrize("wobble", [0.0, 0.3])
def test_load_goes_up_and_down_and_replicas_follow(wobble):
    deployment = Deployment(wobble)
    deployment.run(0.5, 600)
    assert deployment.running == 1

    deployment.run(8.0, 600)
    assert 7 <= deployment.running + len(deployment.loading) <= 12, "4.8 replicas' work, at 70 % of their time"
    assert not deployment.loading
    deployment.run(8.0, 600)
    assert deployment.most_waited_s * 1000 <= OPTIONS.target_ms

    deployment.run(0.5, 1800)
    assert deployment.running == 1


def test_a_load_that_wobbles_has_no_replicas_come_and_go():
    deployment = Deployment(wobble=0.2)
    deployment.run(4.0, 900)
    settled = deployment.changes
    deployment.run(4.0, 4 * 3600)

    assert deployment.changes - settled <= 1
