"""`suanli service`: inference services and their versions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.owned import Owned, tenant_of
from scheduler.cli.render import Table, hint, one_line, show_json, show_pairs, show_table
from scheduler.errors import SuanliError

SERVICES = Owned("services")

ASK_EVERY_S = 0.5
ENDS = frozenset({"live", "rolled back", "failed", "gone"})
_name = click.argument("name", metavar="[TENANT/]NAME")


@click.group()
def service() -> None:
    """Inference services: deploy versions of them, look at them, go back.

    \b
    suanli service deploy detect.yaml                                  the first version, or the next one at once
    suanli service deploy detect.yaml --canary 5,25,100 --step 60s     step by step, given up by itself if it is worse
    suanli service show detect                                         versions, requests, percentiles, decisions
    suanli service rollback detect                                     back to the version before
    """


@service.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--canary", metavar="PERCENT,...", help="Parts of the requests it is given in turn: 5,25,100.")
@click.option("--step", metavar="TIME", help="How long each part lasts at least: 60s.")
@click.option("--min-requests", type=click.IntRange(0), help="A step ends only after so many answers.")
@click.option("--wait", "wait_too", is_flag=True, help="Until it has taken over, or was given up.")
@output_option
@click.pass_context
def deploy(
    context: click.Context,
    file: Path,
    canary: str | None,
    step: str | None,
    min_requests: int | None,
    wait_too: bool,
    output: str,
) -> None:
    """Deploy FILE, a job file of kind inference, as the next version of the service that it names."""
    from scheduler.cli.submit import post_job
    from scheduler.schema.jobfile import check_shape, job_from_file, resolve_paths

    job, lines = job_from_file(file)
    given = {"steps": canary, "step": step, "min_requests": min_requests}
    told = {name: value for name, value in given.items() if value is not None}
    if told:
        written = job.get("canary")
        before = dict(written) if isinstance(written, Mapping) else {} if written is None else {"steps": written}
        job = {**job, "canary": {**before, **told}}
    check_shape(job, str(file), lines)
    client = Client.from_env()
    view = post_job(client, "/v1/services", resolve_paths(job, Path.cwd()), file)
    number = next(each["number"] for each in view["versions"] if each["job"] == view["deployed_job"])
    if wait_too:
        ended = _wait(client, view, number)
        if output == "json":
            show_json("service", ended)
        else:
            click.echo(_became(ended, number))
        context.exit(0 if _version(ended, number)["state"] == "live" else 1)
    if output == "json":
        show_json("service", view)
        return
    how = "is live" if view["rollout"] is None else f"takes over: {_steps(view['rollout'])}"
    click.echo(f"version {number} of service {one_line(view['name'])} is job {view['deployed_job']} and {how}")


@service.command("list")
@output_option
def list_services(output: str) -> None:
    """List services, also those that were merely submitted."""
    answer = Client.from_env().get("/v1/services")
    if output == "json":
        show_json("services", answer)
        return
    show_table(table_of(answer["services"]))
    if not answer["services"]:
        hint("no inference service runs; `suanli service deploy FILE` starts one")


@service.command()
@_name
@output_option
def show(name: str, output: str) -> None:
    """Everything about service NAME: versions, replicas, requests of the last minute, decisions."""
    view = Client.from_env().get(SERVICES.path(name), **tenant_of(name))
    if output == "json":
        show_json("service", view)
        return
    now_s = time.time()
    show_pairs(pairs(view))
    click.echo()
    show_table(_versions(view["versions"], now_s))
    if view["decisions"]:
        click.echo()
        show_table(_decisions(view["decisions"]))


@service.command()
@_name
@click.option("--to", "to", type=click.IntRange(1), help="A version's number; otherwise the one before.")
@output_option
def rollback(name: str, to: int | None, output: str) -> None:
    """Go back to an earlier version of NAME. One that is taking over is given up."""
    view = Client.from_env().post(SERVICES.path_with_tenant(name, "/rollback"), {"to": to})
    if output == "json":
        show_json("service", view)
        return
    rollout = view["rollout"]
    if rollout is None:
        click.echo(f"service {one_line(view['name'])} is at version {view['version']}")
    else:
        click.echo(f"service {one_line(view['name'])} goes back to version {rollout['to']} as soon as that answers")


@service.command()
@_name
@output_option
def delete(name: str, output: str) -> None:
    """Stop all versions of NAME for good."""
    was = Client.from_env().delete(SERVICES.path_with_tenant(name, ""))
    if output == "json":
        show_json("service", was)
        return
    jobs = ", ".join(each["job"] for each in was["versions"] if each["job_state"] is not None)
    click.echo(f"service {one_line(was['name'])} of tenant {was['tenant']} is deleted; its jobs ({jobs}) are stopped")


# ---- words -------------------------------------------------------------------------------------------------------


def table_of(views: Sequence[Json]) -> Table:
    table = Table(
        [
            Column("NAME"),
            Column("TENANT", shed=3),
            Column("CLASS", shed=4),
            Column("STATE", styled=True),
            Column("VERSION", right=True),
            Column("READY", right=True),
            Column("REQ/S", right=True),
            Column("P99", right=True),
            Column("SLO", right=True, shed=2),
            Column("WITHIN", right=True),
            Column("REFUSED", right=True, shed=1),
            Column("NOTE", folds=True, below=True),
        ]
    )
    for view in views:
        traffic = view["traffic"]
        table.add(
            view["name"],
            view["tenant"],
            view["priority_class"] or "",
            view["state"],
            "" if view["version"] is None else view["version"],
            f"{view['replicas_ready']}/{view['replicas_wanted']}",
            f"{traffic['rate_per_s']:.3g}",
            _time(traffic["p99_s"]),
            _slo(view),
            _share(traffic["attainment"]),
            traffic["refused"] + traffic["hopeless"] or "",
            note_text(view),
        )
    return table


def pairs(view: Json) -> list[tuple[str, Any]]:
    traffic, scaled = view["traffic"], view["autoscaling"]
    return [
        ("service", view["name"]),
        ("tenant", view["tenant"]),
        ("class", view["priority_class"] or ""),
        ("state", view["state"]),
        ("version", view["version"] if view["deployed"] else "a plain job, without other versions"),
        ("hosts", ", ".join(view["hosts"])),
        ("rollout", "" if view["rollout"] is None else _rollout(view["rollout"])),
        ("replicas", f"{view['replicas_ready']} of {view['replicas_wanted']} answer"),
        ("scaling", "" if scaled is None else _scaling(scaled)),
        ("SLO", f"99% within {_slo(view)}" if view["slo_p99_ms"] is not None else "none"),
        ("within it", _share(traffic["attainment"])),
        ("requests", f"{traffic['rate_per_s']:.3g}/s in the last minute ({traffic['arrivals']:,})"),
        ("refused", _refused(traffic)),
        ("errors", f"{traffic['errors']:,}" if traffic["errors"] else ""),
        ("queue", f"{traffic['waiting']} wait, {_time(traffic['queue_s'])} each" if traffic["waiting"] else ""),
        ("service time", _time(traffic["service_s"])),
        ("p50, p95, p99", ", ".join(_time(traffic[name]) or "-" for name in ("p50_s", "p95_s", "p99_s"))),
        ("rate limit", _limit(view["request_rate_limit_per_s"])),
    ]


def _versions(rows: Sequence[Json], now_s: float) -> Table:
    table = Table(
        [
            Column("VERSION", right=True),
            Column("JOB"),
            Column("STATE", styled=True),
            Column("SHARE", right=True),
            Column("READY", right=True),
            Column("REQ/S", right=True),
            Column("P50", right=True, shed=2),
            Column("P99", right=True),
            Column("WITHIN", right=True),
            Column("ERRORS", right=True),
            Column("COLD-START", right=True, shed=1),
            Column("AGE", right=True, shed=3),
            Column("NOTE", folds=True, below=True),
        ]
    )
    for row in rows:
        traffic = row["traffic"]
        why = row["why"] or (row["reason"]["text"] if row["reason"] else "")
        table.add(
            row["number"],
            row["job"],
            row["state"],
            f"{row['weight_milli'] / 10:g}%",
            f"{row['replicas_ready']}/{row['replicas_wanted']}",
            f"{traffic['rate_per_s']:.3g}",
            _time(traffic["p50_s"]),
            _time(traffic["p99_s"]),
            _share(traffic["attainment"]),
            traffic["errors"] or "",
            _time(row["last_cold_start_s"]),
            words.duration(now_s - row["at_s"]),
            one_line(why),
        )
    return table


def _decisions(rows: Sequence[Json]) -> Table:
    table = Table(["AT", Column("VERSION", right=True), "WHAT", Column("WHY", folds=True, below=True)])
    for row in rows:
        detail = row["detail"]
        what = row["event"].replace("_", " ")
        if row["event"] in ("scaled", "registered") and "replicas" in detail:
            before = f" from {detail['before']}" if "before" in detail else ""
            what = f"{what}{before} to {detail['replicas']}"
        elif row["event"] == "rollout_step":
            what = f"takes {detail['share_milli'] / 10:g}%"
        why = detail.get("detail") or ("" if detail.get("by") in (None, "rollout") else f"by {detail['by']}")
        table.add(words.moment(row["at_s"]), row["version"], what, one_line(str(why)))
    return table


def note_text(view: Json) -> str:
    if view["rollout"] is not None:
        return _rollout(view["rollout"])
    current = next((each for each in view["versions"] if each["number"] == view["version"]), None)
    if current is not None and current["reason"] is not None and current["replicas_ready"] < current["replicas_wanted"]:
        return one_line(current["reason"]["text"])
    newest = view["versions"][0]
    if newest["state"] in ("rolled back", "failed"):
        return one_line(f"version {newest['number']} {newest['state']}: {newest['why']}")
    return ""


def _rollout(rollout: Json) -> str:
    share = f"{rollout['share_milli'] / 10:g}%"
    seen = f"{rollout['requests']:,} requests, {rollout['errors']:,} errors, {rollout['late']:,} late"
    since = words.duration(rollout["lasted_s"])
    if not rollout["share_milli"]:
        return f"version {rollout['to']} is to take over ({_steps(rollout)}); its replicas are awaited since {since}"
    return f"version {rollout['to']} has {share} of the requests since {since}: {seen} ({_steps(rollout)})"


def _steps(rollout: Json) -> str:
    steps = ", ".join(f"{step}%" for step in rollout["steps"])
    return f"{steps}, each for {words.duration(rollout['step_s'])}" if rollout["step_s"] else "at once"


def _scaling(scaled: Json) -> str:
    if scaled["pinned"]:
        return f"pinned at {scaled['wanted']} by hand; `suanli scale NAME auto` lets its load decide again"
    if not scaled["on"]:
        return "by hand"
    idle = f", none after {words.duration(scaled['idle_s'])} without a request" if scaled["min"] == 0 else ""
    return f"by its load, {scaled['min']} to {scaled['max']}{idle}"


def _refused(traffic: Json) -> str:
    if not traffic["refused"] and not traffic["hopeless"]:
        return ""
    return f"{traffic['refused']:,} refused, of these or dropped as hopeless {traffic['hopeless']:,}"


def _slo(view: Json) -> str:
    return "" if view["slo_p99_ms"] is None else words.milliseconds(view["slo_p99_ms"] / 1000)


def _limit(rate: float | None) -> str:
    return "" if rate is None else f"{rate:g} requests/s for all services of the tenant, at each gateway"


def _time(seconds: float | None) -> str:
    return "" if seconds is None else words.milliseconds(seconds)


def _share(part: float | None) -> str:
    return "" if part is None else f"{part:.2%}"


# ---- waiting -----------------------------------------------------------------------------------------------------


def _wait(client: Client, view: Json, number: int) -> Json:
    name = f"{view['tenant']}/{view['name']}"
    try:
        while True:
            view = client.get(SERVICES.path(name), **tenant_of(name))
            version = _version(view, number)
            settled = version["state"] in ENDS and (version["state"] != "live" or _serves(view, version))
            if settled:
                return view
            time.sleep(ASK_EVERY_S)
    except KeyboardInterrupt:
        raise Interrupted(f"no longer waiting; version {number} goes on taking over") from None


def _serves(view: Json, version: Json) -> bool:
    """A first version is live from the beginning: wait for a replica, unless it is to have none yet."""
    return bool(version["replicas_ready"]) or not version["replicas_wanted"] or view["state"] == "asleep"


def _version(view: Json, number: int) -> Json:
    found: Json = next(each for each in view["versions"] if each["number"] == number)
    return found


def _became(view: Json, number: int) -> str:
    version = _version(view, number)
    said = "is live" if version["state"] == "live" else f"was not kept ({version['state']}): {one_line(version['why'])}"
    return f"version {number} of service {one_line(view['name'])} {said}"


class Interrupted(SuanliError):
    """Ctrl-C where it is worth saying what goes on without us."""

    exit_code = 130
