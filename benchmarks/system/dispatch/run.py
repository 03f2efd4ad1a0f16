"""The whole run: the cases through the service, then each peer, then what they make of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.provenance import load_1m, of_our_own_code
from benchmarks.system.dispatch import cases
from benchmarks.system.dispatch.answer import DispatchAnswer, PeerFigures, with_ratios
from benchmarks.system.dispatch.cases import Client, Measured, Progress
from benchmarks.system.dispatch.peers import run_peer

ONE_AT_A_TIME = 200
ONE_AFTER_THE_OTHER = 50
OF = "the way of a job through service, agent and launcher; the jobs do nothing, and no device was measured"

RunPeer = Callable[[str, int], PeerFigures]


def run_dispatch(
    client: Client, *, jobs: int, peers: Sequence[str], progress: Progress, run_a_peer: RunPeer = run_peer
) -> DispatchAnswer:
    """Ctrl-C keeps the cases that are done. Raises SuanliError where the service cannot be asked, or has other work on
    this machine's node."""
    about = of_our_own_code(OF) | {
        "jobs": jobs,
        "clock": "wall; the stamps of processes are the launcher's, on the machine that submits",
    }
    node = cases.here(client)
    about["node"] = node.name
    measured = Measured()
    found: list[PeerFigures] = []
    partial = False
    try:
        cases.bare(jobs, measured, progress)
        cases.one_at_a_time(client, node, min(jobs, ONE_AT_A_TIME), measured, progress)
        cases.one_after_the_other(client, node, min(jobs, ONE_AFTER_THE_OTHER), measured, progress)
        cases.array(client, node, jobs, measured, progress)
        cases.bulk(client, node, jobs, measured, progress)
        if peers:
            cases.stamped_array(client, node, jobs, measured, progress)
        for number, peer in enumerate(peers):
            progress(peer, number / len(peers))
            found.append(run_a_peer(peer, jobs))
    except KeyboardInterrupt:
        partial = True
    about["load_1m_after"] = load_1m()
    values = with_ratios(measured.values, tuple(found))
    return DispatchAnswer(about, values, measured.details, tuple(found), partial)
