"""From a seed to a story: what a bad day of a small site could look like.

Small on purpose: two to four nodes and a dozen jobs meet every race that a thousand do, and the failing story can be
read. Each seed leans towards some kinds of trouble and leaves others out, so that also rare combinations are met often
(swarm testing: Groce, Zhang, Eide, Chen, Regehr, "Swarm Testing", ISSTA 2012).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from scheduler.simulation.faults.story import (
    BreakDevice,
    Cancel,
    CrashAgent,
    CrashLauncher,
    CutOff,
    Deploy,
    Direction,
    DrainNode,
    FailWrites,
    FreezeService,
    GoBack,
    JumpClock,
    KillNode,
    KillService,
    Nonsense,
    Quiet,
    RefuseWrites,
    RepeatExit,
    Scale,
    Serve,
    Setup,
    SilenceGateway,
    Step,
    Story,
    Submit,
    SubmitNonsense,
    Tamper,
    Tampering,
    Undeploy,
    Weather,
    What,
)

Trouble = Callable[[random.Random, Setup], What]

CLASSES = ("best-effort", "normal", "normal", "urgent")
TENANTS = ("studio", "studio", "hospital")
DIRECTIONS: tuple[Direction, ...] = ("to", "from", "both", "both")
TAMPERINGS: tuple[Tampering, ...] = ("lose", "delay", "double")
NONSENSE: tuple[Nonsense, ...] = (
    "never_fits",
    "foreign_tenant",
    "past_deadline",
    "unknown_dependency",
    "unknown_job",
    "beyond_quota",
)


Rates = Mapping[str, float]
"""By fault (`FAULTS`): how many of it an average story holds."""


def story_of(seed: int, rates: Rates | None = None) -> Story:
    """The whole story of a seed. Without `rates` it leans towards some faults and leaves others out; with them each
    fault that is named comes as often as they say (Poisson), and no other one.
    """
    rng = random.Random(f"suanli story {seed}")
    nodes = rng.choice((2, 2, 3, 3, 4))
    setup = Setup(
        seed=seed,
        devices=tuple(rng.choice((1, 2, 2, 4)) for _ in range(nodes)),
        lease_s=rng.choice((20.0, 30.0, 60.0)),
        quota_studio=rng.choice((None, None, 2, 3)),
        limit_studio_jobs=rng.choice((None, None, None, 3)),
        faults_until_s=rng.choice((120.0, 240.0, 360.0)),
    )
    kinds = [kind for kind in _TROUBLE if rng.random() < 0.45] or [rng.choice(_TROUBLE)]
    made: list[tuple[float, What]] = []
    end_s = setup.faults_until_s
    for _ in range(rng.randint(4, 14)):
        made.append((rng.uniform(0, end_s * 0.8), _work(rng, setup)))
    for _ in range(rng.randint(0, 4)):
        made.append((rng.uniform(0, end_s), _request(rng, setup)))
    if rates is None:
        for _ in range(rng.randint(2, 12)):
            made.append((rng.uniform(0, end_s), rng.choice(kinds)(rng, setup)))
    else:
        made += [(rng.uniform(0, end_s), trouble(rng, setup)) for trouble in _at_rates(rng, rates)]
    made.sort(key=lambda pair: pair[0])
    return Story(setup, tuple(Step(i, round(at_s, 3), what) for i, (at_s, what) in enumerate(made)))


def _at_rates(rng: random.Random, rates: Rates) -> list[Trouble]:
    """Of each fault a Poisson number: how many exponential gaps fit into one story."""
    chosen: list[Trouble] = []
    for name in sorted(rates):
        rate = rates[name]
        at = rng.expovariate(rate) if rate > 0 else 1.0
        while at < 1.0:
            chosen.append(FAULTS[name])
            at += rng.expovariate(rate)
    return chosen


def _work(rng: random.Random, setup: Setup) -> What:
    if rng.random() < 0.2:
        most = rng.randint(1, 3)
        return Serve(
            replicas=rng.randint(0, most),
            replicas_max=most,
            share_milli=rng.choice((250, 500, 0)),
            ready_s=rng.choice((0.5, 3.0)),
            lasts_s=rng.choice((None, None, 40.0)),
            priority_class=rng.choice(CLASSES),
            tenant=rng.choice(TENANTS),
        )
    workers = rng.choice((1, 1, 1, 2, 2, 3))
    saves = rng.random() < 0.5
    fails = rng.choice((0, 0, 0, 0, 1, 2))
    return Submit(
        workers=workers,
        workers_max=workers + rng.choice((0, 0, 1)) if saves else 0,
        devices=rng.choice((1, 1, 1, 2, max(setup.devices))),
        share_milli=rng.choice((0, 0, 0, 500)) if workers == 1 else 0,
        work_s=rng.choice((0.5, 5.0, 20.0, 60.0, 120.0)),
        fails=fails,
        retries=rng.choice((fails, fails, fails + 1, max(0, fails - 1))),
        saves_every_s=rng.choice((5.0, 15.0)) if saves else None,
        save_s=rng.choice((0.1, 2.0, 6.0)),
        grace_s=rng.choice((3.0, 10.0, 20.0)),
        stubborn=rng.random() < 0.2,
        leaves_with=rng.choice((0, 0, 1)),
        priority_class=rng.choice(CLASSES),
        tenant=rng.choice(TENANTS),
        time_limit_s=rng.choice((600.0, 600.0, 600.0, 45.0)),
        array=rng.choice((0, 0, 0, 0, 3)) if workers == 1 else 0,
        after=rng.choice((0, 0, 0, 1, 2)),
    )


def _request(rng: random.Random, setup: Setup) -> What:
    kind = rng.randrange(4)
    if kind == 0:
        return Cancel(rng.randint(0, 5))
    if kind == 1:
        return Scale(rng.randint(0, 5), rng.randint(0, 3))
    if kind == 2:
        return DrainNode(rng.choice(setup.nodes), rng.choice((5.0, 40.0)))
    return SubmitNonsense(rng.choice(NONSENSE))


# ---- trouble -------------------------------------------------------------------------------------------------------


def _kill_service(rng: random.Random, setup: Setup) -> What:
    return KillService(rng.choice((0, 1, 2, 3, 5, 8, 13, 30)), rng.choice((0.5, 5.0, 40.0, 100.0)))


def _freeze_service(rng: random.Random, setup: Setup) -> What:
    other_after_s = rng.choice((1.0, 10.0))
    return FreezeService(other_after_s + rng.choice((1.0, 20.0, 90.0)), other_after_s)


def _refuse_writes(rng: random.Random, setup: Setup) -> What:
    return RefuseWrites(rng.choice((2.0, 20.0, 70.0)))


def _fail_writes(rng: random.Random, setup: Setup) -> What:
    return FailWrites(rng.choice((1, 1, 3)))


def _crash_agent(rng: random.Random, setup: Setup) -> What:
    return CrashAgent(rng.choice(setup.nodes))


def _crash_launcher(rng: random.Random, setup: Setup) -> What:
    return CrashLauncher(rng.choice(setup.nodes))


def _kill_node(rng: random.Random, setup: Setup) -> What:
    return KillNode(rng.choice(setup.nodes), rng.choice((2.0, 20.0, 90.0)), rng.choice((0, 0, 40, 200)))


def _cut_off(rng: random.Random, setup: Setup) -> What:
    for_s = rng.choice((1.0, 5.0, 12.0, 30.0, setup.lease_s + 5.0, setup.lease_s * 2 + 40.0))
    return CutOff(rng.choice(setup.nodes), for_s, rng.choice(DIRECTIONS), rng.random() < 0.4)


def _tamper(rng: random.Random, setup: Setup) -> What:
    by_s = rng.choice((0.01, 0.5, 4.0, 25.0))
    direction: Direction = rng.choice(("to", "from"))
    return Tamper(rng.choice(setup.nodes), direction, rng.choice(TAMPERINGS), rng.choice((1, 1, 2, 5)), by_s)


def _weather(rng: random.Random, setup: Setup) -> What:
    some = (0.0, 0.05, 0.2)
    return Weather(
        rng.choice((10.0, 40.0)), rng.choice(some), rng.choice(some), rng.choice(some), rng.choice((0.05, 3.0))
    )


def _jump_clock(rng: random.Random, setup: Setup) -> What:
    by_s = rng.choice((-7200.0, -90.0, -5.0, 5.0, 90.0, 7200.0))
    return JumpClock(rng.choice(("head", *setup.nodes)), by_s)


def _break_device(rng: random.Random, setup: Setup) -> What:
    at = rng.randrange(len(setup.devices))
    return BreakDevice(setup.nodes[at], rng.randrange(setup.devices[at]), rng.choice((10.0, 60.0)))


def _repeat_exit(rng: random.Random, setup: Setup) -> What:
    return RepeatExit(rng.choice((1, 2, 5)), rng.choice((0.0, 1.0, 30.0)))


FAULTS: dict[str, Trouble] = {
    "kill_service": _kill_service,
    "freeze_service": _freeze_service,
    "refuse_writes": _refuse_writes,
    "fail_writes": _fail_writes,
    "crash_agent": _crash_agent,
    "crash_launcher": _crash_launcher,
    "kill_node": _kill_node,
    "cut_off": _cut_off,
    "tamper": _tamper,
    "weather": _weather,
    "jump_clock": _jump_clock,
    "break_device": _break_device,
    "repeat_exit": _repeat_exit,
}
_TROUBLE_BY_DEFAULT = tuple(FAULTS)


def _deploy(rng: random.Random, setup: Setup) -> What:
    low = rng.choice((0, 1, 1, 2))
    return Deploy(
        rng.randrange(2),
        errors_milli=rng.choice((0, 0, 300)),
        replicas=low,
        replicas_max=low + rng.choice((1, 2)),
        steps=rng.choice(((100,), (50, 100), (10, 50, 100))),
        step_s=rng.choice((1.0, 5.0, 20.0)),
    )


# Services with versions, for stories that ask for them: `--rate deploy=4 --rate kill_service=3`.
FAULTS |= {
    "deploy": _deploy,
    "go_back": lambda rng, _: GoBack(rng.randrange(2)),
    "undeploy": lambda rng, _: Undeploy(rng.randrange(2)),
    "quiet": lambda rng, _: Quiet(rng.randrange(2), rng.choice((10.0, 60.0))),
    "silence_gateway": lambda rng, _: SilenceGateway(rng.choice((5.0, 30.0))),
}
_TWICE_AS_OFTEN = ("kill_service", "cut_off")
_TROUBLE = tuple(
    trouble for name in _TROUBLE_BY_DEFAULT for trouble in (FAULTS[name],) for _ in range(1 + (name in _TWICE_AS_OFTEN))
)
