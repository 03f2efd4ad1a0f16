"""`suanli show`: one job with its workers, what its runs used, its events and what it left as results."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from scheduler.cli import words
from scheduler.cli.client import Client
from scheduler.cli.ids import job_or_array
from scheduler.cli.layout import Column
from scheduler.cli.options import job_argument, output_option
from scheduler.cli.render import Table, one_line, show_json, show_pairs, show_table


@click.command()
@job_argument
@output_option
def show(job_id: str, output: str) -> None:
    """Show everything about job ID (default: last); for an array's number, its tasks."""
    found = job_or_array(Client.from_env(), job_id)
    if len(found) > 1:
        _show_array(job_id, found, output)
        return
    (job,) = found
    if output == "json":
        show_json("job", job)
        return
    spec = job["spec"]
    now_s = time.time()
    estimate = words.estimated_start(job, now_s)
    show_pairs(
        [
            ("job", job["id"]),
            ("name", job["name"]),
            ("tenant", job["tenant"]),
            ("class", job["priority_class"]),
            ("kind", job["kind"]),
            ("state", job["state"]),
            ("reason", words.reason(job)),
            ("held", _held(job)),
            ("est. start", f"{words.moment(job['est_start_s'])} ({estimate})" if estimate else ""),
            ("workers", words.workers(job)),
            ("scaled to", f"{job['workers_wanted']} (by hand)" if job["pinned"] else job["workers_wanted"]),
            ("version", words.version(job)),
            ("demand", job["demand"]),
            ("placed", words.constraints(job)),
            ("reservation", job["reservation"]),
            ("deadline", words.moment(job["deadline_s"])),
            ("preempted", f"{job['preemptions']} times" if job["preemptions"] > 1 else "once" * job["preemptions"]),
            ("simulated", "yes: simulated devices, nothing here is measured" if job["simulated"] else ""),
            ("time limit", words.duration(job["time_limit_s"]) if job["time_limit_s"] is not None else "none"),
            ("submitted", words.moment(job["submitted_s"])),
            ("started", words.moment(job["started_s"])),
            ("ended", words.moment(job["ended_s"])),
            ("attempt", _attempt(job)),
            ("energy", _no_energy(job)),
            ("resumes from", job["resume_from"] if job["state"] not in words.ENDED else ""),
            ("retries", spec.get("retries") or ""),
            ("after", ", ".join(job["after"])),
            ("after any end of", ", ".join(job["after_any"])),
            ("command" if spec.get("command") else "model", _command(spec)),
            ("working dir", spec.get("working_dir")),
            ("checkpoints", (spec.get("checkpoint") or {}).get("dir")),
        ]
    )
    if job["workers"]:
        click.echo()
        show_table(_workers(job))
    if job["usage"]:
        click.echo()
        show_table(_usage(job))
        if any(run.get("use") for run in job["usage"]):
            click.echo()
            show_table(_metered(job))
        if any(run.get("achieved") for run in job["usage"]):
            click.echo()
            show_table(_achieved(job))
    if job["events"]:
        click.echo()
        show_table(_events(job))
    if job["results"]:
        click.echo()
        show_pairs([("results", json.dumps(job["results"], ensure_ascii=False, indent=1))])


def _show_array(job_id: str, tasks: Sequence[words.View], output: str) -> None:
    if output == "json":
        show_json("array", {"id": job_id, "jobs": tasks})
        return
    counts = Counter(task["state"] for task in tasks)
    click.echo(f"array {job_id}: " + ", ".join(f"{count} {state}" for state, count in counts.most_common()))
    table = Table(["ID", Column("STATE", styled=True), "NODES", Column("DETAIL", folds=True, below=True)])
    for task in tasks:
        nodes = dict.fromkeys(w["node"] + (" (simulated)" if w["simulated"] else "") for w in task["workers"])
        table.add(task["id"], task["state"], " ".join(nodes), one_line(task["detail"] or words.reason(task) or ""))
    show_table(table)


def _held(job: words.View) -> str:
    held = job["held"]
    if held is None:
        return ""
    who = f"the operator {held['by']}" if held["by_operator"] else held["by"]
    return f"since {words.moment(held['at_s'])} by {who}: {one_line(held['reason'])}"


def _attempt(job: words.View) -> str:
    if not job["attempt"]:
        return ""
    failed = f" ({job['failures']} failed)" if job["failures"] else ""
    return f"{job['attempt']}{failed}"


def _no_energy(job: words.View) -> str:
    """Where not one of its runs has a figure: that this is so, and why. The others are in the table of what was
    metered."""
    usage = job["usage"]
    if any((run.get("use") or {}).get("joules") is not None for run in usage):
        return ""
    reasons = dict.fromkeys(run["no_energy"] for run in usage if run.get("no_energy"))
    return f"not measured ({'; '.join(reasons)})" if reasons else ""


def _command(spec: dict[str, Any]) -> str:
    """What it runs; the model of a service. Quoted as a shell would want it back."""
    import shlex

    command = spec.get("command")
    if command:
        return command if isinstance(command, str) else shlex.join(str(part) for part in command)
    model = spec.get("model")
    if isinstance(model, dict):
        return f"{model.get('path')}:{model.get('class_name')}"
    return str(model or "")


def _workers(job: words.View) -> Table:
    table = Table(
        [
            Column("WORKER", right=True),
            Column("ATTEMPT", right=True, shed=1),
            "NODE",
            "DEVICES",
            Column("PHASE", styled=True),
            Column("EXIT", right=True),
            Column("ADDRESS", shed=2),
        ]
    )
    for worker in job["workers"]:
        exit_code = "" if worker["exit_code"] is None else worker["exit_code"]
        phase, address = worker["phase"], worker["address"]
        table.add(worker["worker"], worker["attempt"], *_place(worker), phase, str(exit_code), address)
    return table


def _usage(job: words.View) -> Table:
    """What its runs that have ended used: SECONDS of DEVICES. One that nobody saw end counts as long as it is known to
    have lived."""
    table = Table(
        [
            Column("WORKER", right=True),
            Column("ATTEMPT", right=True),
            "NODE",
            "DEVICES",
            Column("SECONDS", right=True),
            Column("DEVICE-S", right=True),
            "END",
            Column("CAUSE", shed=1),
        ]
    )
    for run in job["usage"]:
        seconds, device_seconds = f"{run['seconds']:.1f}", f"{run['device_seconds']:.1f}"
        table.add(run["worker"], run["attempt"], *_place(run), seconds, device_seconds, run["end"], run["cause"])
    return table


def _metered(job: words.View) -> Table:
    """What its runs made their devices do. METERED says how much of a run's time the readings cover: an agent that was
    restarted has missed what was before."""
    table = Table(
        [
            Column("WORKER", right=True),
            Column("ATTEMPT", right=True),
            Column("JOULES", right=True),
            Column("MEAN-W", right=True),
            Column("PEAK-MEMORY", right=True),
            Column("MEAN-USE", right=True),
            Column("METERED"),
            Column("READINGS", shed=1),
        ]
    )
    for run in job["usage"]:
        use = run.get("use")
        if use is None:
            continue
        table.add(
            run["worker"],
            run["attempt"],
            words.joules(use),
            words.or_unread(use["mean_watts"], lambda watts: f"{watts:.1f}"),
            words.or_unread(use["peak_memory_bytes"], words.size),
            words.or_unread(use["mean_utilisation_percent"], lambda percent: f"{percent:.1f}%"),
            words.metered(use, run["seconds"], run["unmetered_s"]),
            "simulated" if use["simulated"] else "measured",
        )
    return table


def _achieved(job: words.View) -> Table:
    """Of a benchmark, by its own result. A device that was not verified counts 0."""
    table = Table(
        [
            Column("WORKER", right=True),
            Column("ATTEMPT", right=True),
            "WORKLOAD",
            "PRECISION",
            Column("PFLOPS", right=True),
            "EVIDENCE",
            Column("VERIFIED", right=True),
        ]
    )
    for run in job["usage"]:
        for each in run.get("achieved", ()):
            table.add(
                run["worker"],
                run["attempt"],
                each["workload"],
                each["precision"],
                words.or_unread(each["gflops"], words.pflops, "not run"),
                words.EVIDENCE[each["on"]],
                f"{each['verified']}/{each['devices']}",
            )
    return table


def _place(worker: words.View) -> tuple[str, str]:
    """Its node and its devices there."""
    devices = words.ranges(worker["devices"])
    if worker["share_milli"]:
        advisory = ", advisory" if worker.get("share_by") == "advisory" else ""  # what ended is not held to anything
        devices += f" ({words.milli(worker['share_milli'])} of it{advisory})"
    return worker["node"] + (" (simulated)" if worker["simulated"] else ""), devices


def _events(job: words.View) -> Table:
    table = Table(["AT", "EVENT", Column("STATE", styled=True), Column("DETAIL", folds=True, below=True)])
    for event in job["events"]:
        detail = "; ".join(
            f"{key} {_short(value)}"
            for key, value in event["detail"].items()
            if value not in (None, "") and not key.endswith("_s")  # moments are for -o json
        )
        table.add(words.moment(event["at_s"]), event["event"], event["state"], detail)
    return table


def _short(value: Any) -> str:
    if isinstance(value, dict):  # what stands where, by worker
        text = ", ".join(f"{key}: {part}" for key, part in value.items())
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = one_line(text)
    return text if len(text) <= 200 else text[:197] + "..."
