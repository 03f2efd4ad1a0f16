"""`suanli demo`: the whole main job on this machine, for real, checked step by step.

It has an instance of its own (home and ports), so it disturbs no other. Every step asserts what it says; the first one
that did not do it ends the demo with a non-zero exit code. Whatever happens, the instance is taken down.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli.demo_waiting import ENDED, DemoFailed, first_result, losses_of, require, wait_for_end, wait_until
from scheduler.cli.instance import Home, strays

if TYPE_CHECKING:
    from scheduler.cli.client import Client

H100 = "H100 SXM"
ASCEND = "Ascend 910B (Atlas 800T A2)"


@dataclass(slots=True)
class Stage:
    """What the steps share: where things are, how to run the CLI, and what the summary will say."""

    out: Path
    home: Home
    client: Client | None = None
    trained: Path | None = None  # where the training job's checkpoints are
    summary: list[tuple[str, str]] = field(default_factory=list)

    def api(self) -> Client:
        assert self.client is not None
        return self.client

    def suanli(self, *arguments: str, show: bool = True, expect: int = 0) -> str:
        """Run a verb as an operator would, in a process of its own; its output is shown, and returned if it was caught.

        On a terminal what is only to be looked at goes there directly, so that it has the terminal's form.
        """
        if show:
            click.secho(f"$ suanli {' '.join(arguments)}", bold=True)
            sys.stdout.flush()
        direct = show and "-q" not in arguments and sys.stdout.isatty()
        done = subprocess.run(
            [sys.executable, "-m", "scheduler.cli", *arguments],
            stdout=None if direct else subprocess.PIPE,
            text=True,
            env=os.environ | {"SUANLI_HOME": str(self.home.path)},
            check=False,
        )
        if show and not direct and done.stdout.strip():
            click.echo(done.stdout.rstrip())
        if done.returncode != expect:
            raise DemoFailed(f"`suanli {' '.join(arguments)}` ended with {done.returncode}, not {expect}")
        return done.stdout or ""

    def submit(self, name: str, job: dict[str, Any], *, show: bool = True) -> str:
        """Write a job file and submit it; the id."""
        import yaml

        path = self.out / "jobs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"name": name, **job}, sort_keys=False, allow_unicode=True))
        return self.suanli("submit", "-q", str(path), show=show).strip()

    def job(self, job_id: str) -> dict[str, Any]:
        return self.api().get(f"/v1/jobs/{job_id}")

    def note(self, what: str, figure: str) -> None:
        self.summary.append((what, figure))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), help="Where the reports go.")
@click.option("--keep", is_flag=True, help="Leave the instance running at the end.")
def demo(out: Path, keep: bool) -> None:
    """Schedule, train, serve, preempt, measure and report on this machine, in about two minutes."""
    from scheduler.cli.up import _termination_is_interruption

    began = time.monotonic()
    out = out.absolute()
    stage = Stage(out=out / "demo", home=Home(out / "demo" / "home"))
    stage.out.mkdir(parents=True, exist_ok=True)
    os.environ["SUANLI_HOME"] = str(stage.home.path)
    for name in ("SUANLI_API", "SUANLI_TOKEN", "SUANLI_TOKEN_FILE"):
        os.environ.pop(name, None)
    steps = (step_up, step_train, step_serve, step_preempt, step_bench, step_report)
    try:
        with _termination_is_interruption():
            _clear_previous(stage)
            for number, step in enumerate(steps, 1):
                title = (step.__doc__ or "").splitlines()[0]
                click.secho(f"\n[{number}/{len(steps) + 1}] {title}", fg="cyan", bold=True)
                step(stage)
            if not keep:
                click.secho(f"\n[{len(steps) + 1}/{len(steps) + 1}] Take everything down.", fg="cyan", bold=True)
                step_down(stage)
    except DemoFailed as error:
        click.secho(f"\ndemo failed: {error}", fg="red", err=True)
        click.echo(f"logs are in {stage.home.logs}", err=True)
        _quiet_down(stage)
        sys.exit(1)
    except BaseException:
        _quiet_down(stage)
        raise
    _show_summary(stage, time.monotonic() - began)


def _clear_previous(stage: Stage) -> None:
    """A demo that was killed may have left its instance: take it down and begin from nothing."""
    if stage.home.path.exists():
        _quiet_down(stage)
        shutil.rmtree(stage.home.path)
    shutil.rmtree(stage.out / "checkpoints", ignore_errors=True)


def _quiet_down(stage: Stage) -> None:
    from scheduler.cli.stopping import stop_instance
    from scheduler.cli.up import _ignoring_interruption

    with _ignoring_interruption():
        started = stage.home.started()
        if started is not None:
            stop_instance(stage.home, started)
            stage.home.forget()


# ---- steps -------------------------------------------------------------------------------------------------------


def step_up(stage: Stage) -> None:
    """Start Ray, the service, the gateway, this machine's agent and six simulated nodes."""
    from scheduler.cli.client import Client
    from scheduler.cli.up import default_config

    local = Path("configs/local.yaml")
    config = local if local.exists() else default_config()
    stage.suanli("up", "--config", str(config), "--api-port", "0", "--gateway-port", "0")
    stage.client = Client.from_home(stage.home.path)
    nodes = stage.api().get("/v1/nodes")["nodes"]
    real = [node for node in nodes if not node["simulated"]]
    simulated = [node for node in nodes if node["simulated"]]
    require(len(real) == 1, f"one real node expected, {len(real)} found")
    by_model = {
        model: [len(node["devices"]) for node in simulated if node["devices"][0]["model"] == model]
        for model in (H100, ASCEND)
    }
    require(by_model[H100] == [8] * 4, f"4 x 8 simulated {H100} expected, found {by_model[H100]}")
    require(by_model[ASCEND] == [8] * 2, f"2 x 8 simulated {ASCEND} expected, found {by_model[ASCEND]}")
    stage.suanli("nodes")
    devices = real[0]["devices"]
    stage.note("this machine", f"{len(devices)} x {devices[0]['model']} ({devices[0]['vendor']} devices)")
    stage.note("simulated", f"{sum(map(sum, by_model.values()))} cards on {len(simulated)} nodes (simulated)")


def step_train(stage: Stage) -> None:
    """Train a byte-level transformer on the standard library's sources, as a gang of two workers."""
    steps = 60
    checkpoints = stage.out / "checkpoints" / "bytes"
    job_id = stage.submit(
        "train-bytes",
        {
            "kind": "training",
            "command": [sys.executable, example("train_bytes.py"), "--steps", str(steps), "--checkpoint-every", "20"],
            "workers": 2,
            "resources": {"device": H100, "count": 1, "cpus": 1, "memory": "3GiB", "simulated": True},
            "time_limit": "10m",
            "retries": 1,
            "checkpoint": {"dir": str(checkpoints), "grace": "20s"},
            "working_dir": str(Path.cwd()),
        },
    )
    losses: dict[int, float] = {}

    def progress() -> float:
        losses.update(losses_of(stage, job_id))
        return max(losses, default=0)

    job = wait_for_end(stage, job_id, limit_s=90, label="training", total=steps, progress=progress)
    require(job["state"] == "succeeded", f"training ended as {job['state']}: {job.get('detail')}")
    result = first_result(job)
    first, last = result["first_loss"], result["last_loss"]
    require(last < first - 0.5, f"the loss did not fall: {first:.3f} to {last:.3f}")
    stage.trained = checkpoints / job_id
    written = list(stage.trained.glob("attempt-*/*"))
    require(bool(written), f"no checkpoint was written under {stage.trained}")
    stage.note("training", f"2 workers, {result['steps']} steps, held-out loss {first:.2f} -> {last:.2f} nats a byte")
    click.echo(f"loss {first:.3f} -> {last:.3f} over {result['steps']} steps; checkpoints in {_shown(checkpoints)}")


def step_serve(stage: Stage) -> None:
    """Serve that checkpoint with two replicas behind the gateway and send it real requests."""
    from benchmarks.workloads.http_load import run_load

    job_id = stage.submit(
        "byte-model",
        {
            "kind": "inference",
            "model": f"{example('serve_bytes.py')}:ByteModel",
            "replicas": 2,
            "priority_class": "production",
            "resources": {"device": H100, "count": 1, "cpus": 1, "memory": "2GiB", "simulated": True},
            "slo": {"p99_ms": 500},
            "env": {"CHECKPOINT_DIR": str(stage.trained)},
            "working_dir": str(Path.cwd()),
        },
    )

    def ready() -> float:
        view = stage.job(job_id)
        require(view["state"] not in ENDED, f"the service ended as {view['state']}: {view.get('detail')}")
        return float(sum(worker["phase"] == "ready" for worker in view["workers"]))

    wait_until(lambda: ready() == 2, limit_s=60, label="replicas ready", total=2, progress=ready)
    token = stage.home.operator_token.read_text().strip()
    started = stage.home.started()
    assert started is not None
    url = f"{started.gateway}/v1/services/byte-model/predict"
    body = json.dumps({"inputs": [{"prompt": "import sys\n\ndef main(", "tokens": 4}]}).encode()
    # The gateway gets its table a moment after the replicas are ready.
    wait_until(
        lambda: run_load(url, token, body, requests=1, clients=1).ok == 1, limit_s=15, label="gateway has the route"
    )
    load = run_load(url, token, body, requests=400, clients=4)
    require(load.ok == 400, f"{load.sent - load.ok} of {load.sent} requests failed: {load.errors}")
    line = (
        f"{load.ok} requests, p50 {load.p50_ms:.1f} ms, p95 {load.p95_ms:.1f} ms, p99 {load.p99_ms:.1f} ms, "
        f"{load.requests_per_s:.0f} requests/s ({load.generator}, 4 clients; replicas are CPU processes)"
    )
    click.echo(line)
    stage.note("serving", line)
    stage.suanli("cancel", job_id, "--reason", "the demo goes on")
    wait_for_end(stage, job_id, limit_s=30, label="service ends")


def step_preempt(stage: Stage) -> None:
    """Fill the cluster, then let an urgent low-altitude job preempt best-effort work that resumes later."""

    def filler(name: str, device: str, count: int, *, simulated: bool = True, seconds: int = 14) -> str:
        return stage.submit(
            name,
            {
                "kind": "batch",
                "priority_class": "best-effort",
                "command": [sys.executable, example("spin.py"), "--seconds", str(seconds)],
                "resources": {"device": device, "count": count, "cpus": 1, "memory": 0, "simulated": simulated},
                "time_limit": "10m",
                "checkpoint": {"dir": str(stage.out / "checkpoints" / "spin"), "grace": "10s"},
                "working_dir": str(Path.cwd()),
            },
            show=False,
        )

    fillers = [filler(f"fill-h100-{i}", H100, 8) for i in range(4)] + [
        filler(f"fill-910b-{i}", ASCEND, 8) for i in (0, 1)
    ]
    click.echo(f"best-effort jobs {fillers[0]} to {fillers[-1]} submitted, 8 simulated cards each")
    wait_until(
        lambda: all(stage.job(job_id)["state"] == "running" for job_id in fillers), limit_s=30, label="cluster is full"
    )
    waiting = filler("waits-for-cards", H100, 8, seconds=1)
    stage.suanli("queue")
    stage.suanli("why", waiting)
    why = stage.api().get(f"/v1/jobs/{waiting}/why")
    require(why["job"]["state"] == "pending" and bool(why["reason"]), f"job {waiting} should wait with a reason")
    urgent = stage.submit(
        "uav-airspace-check",
        {
            "kind": "batch",
            "priority_class": "low-altitude",
            "command": [sys.executable, example("spin.py"), "--seconds", "3"],
            "resources": {"device": H100, "count": 8, "cpus": 1, "simulated": True},
            "time_limit": "5m",
            "working_dir": str(Path.cwd()),
        },
    )
    done = wait_for_end(stage, urgent, limit_s=60, label="urgent job")
    require(done["state"] == "succeeded", f"the urgent job ended as {done['state']}: {done.get('detail')}")
    victims = [job for job in map(stage.job, fillers) if any(e["event"] == "preempting" for e in job["events"])]
    require(len(victims) == 1, f"one victim expected, found {[job['id'] for job in victims]}")
    victim = wait_for_end(stage, victims[0]["id"], limit_s=90, label="victim resumes and ends")
    require(victim["state"] == "succeeded", f"the victim ended as {victim['state']}: {victim.get('detail')}")
    require(victim["attempt"] >= 2, "the victim was not started again")
    result = first_result(victim)
    require((result.get("resumed_from") or 0) > 0, f"the victim did not resume from its checkpoint: {result}")
    for job_id in (*fillers, waiting):
        ended = wait_for_end(stage, job_id, limit_s=90, label=f"job {job_id}")
        require(ended["state"] == "succeeded", f"job {job_id} ended as {ended['state']}: {ended.get('detail')}")
    waited = done["started_s"] - done["submitted_s"]
    stage.suanli("show", victim["id"])
    stage.note(
        "preemption",
        f"low-altitude job {urgent} started {waited:.2f} s after submission; victim {victim['id']} saved its work, was "
        f"requeued, resumed from count {result['resumed_from']} and finished at {result['count']}",
    )


def step_bench(stage: Stage) -> None:
    """Run the GEMM benchmark on this machine's real devices and on the simulated nodes (a smoke window)."""
    answer = json.loads(stage.suanli("bench", "run", "--window", "4", "-o", "json", show=False))
    click.secho("$ suanli bench run --window 4", bold=True)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for device in answer["devices"]:
        kind = (
            "simulated" if device["evidence"] == "simulated" else "cpu" if device["vendor"] == "cpu" else "accelerator"
        )
        by_kind.setdefault(kind, []).append(device)
    require(
        len(by_kind.get("simulated", [])) >= 48,
        f"48 simulated cards expected, {len(by_kind.get('simulated', []))} answered",
    )
    real = by_kind.get("accelerator", []) + by_kind.get("cpu", [])
    require(bool(real) and all(d["verified"] for d in real), f"this machine's devices were not verified: {real}")
    for kind, unit, per_unit, words in (
        ("accelerator", "PFlops", 1e6, "accelerators, measured"),
        ("cpu", "GFLOP/s", 1.0, "CPU devices, measured, never counted towards a goal"),
        ("simulated", "PFlops", 1e6, "SIMULATED cards, no product was computed"),
    ):
        rated = [device for device in by_kind.get(kind, []) if device["gflops"] is not None]
        if rated:
            figure = sum(device["gflops"] for device in rated) / per_unit
            devices = sum(len(device["covers"]) or 1 for device in rated)
            text = f"{figure:.2f} {unit} on {devices} {words} ({answer['provenance']['label']} window)"
            click.echo(text)
            stage.note(f"bench, {kind}", text)


def step_report(stage: Stage) -> None:
    """Write the capacity report: both goals, what counts and what does not, in two languages; recompute its figures."""
    out = stage.out.parent
    stage.suanli("report", "capacity", "--out", str(out), "--format", "json,md,html,csv,xlsx")
    stage.suanli("report", "verify", str(out / "capacity.json"))
    stage.suanli("report", "capacity", "--lang", "zh", "--out", str(out / "zh"))
    report = json.loads((out / "capacity.json").read_text())
    goals = {goal["goal_pflops"]: goal for goal in report["goals"]}
    require(set(goals) == {700, 400}, f"goals of 700 and 400 PFlops expected, found {sorted(goals)}")
    accelerators = any(
        device["vendor"] != "cpu" and not device["simulated"]
        for node in stage.api().get("/v1/nodes")["nodes"]
        for device in node["devices"]
    )
    for goal in goals.values():
        require(accelerators or not goal["measured"]["pflops"], "measured PFlops on a machine without accelerators")
        nominal, measured, simulated = (_pflops(goal[kind]) for kind in ("nominal", "measured", "simulated"))
        told = f"nominal {nominal}, measured {measured}; simulated, kept apart: {simulated}"
        stage.note(f"goal {goal['goal_pflops']:g} PFlops", f"{goal['site']}: {told}")
    for name in ("capacity.json", "capacity.md", "capacity.html", "capacity.xlsx", "zh/capacity.html"):
        require((out / name).stat().st_size > 500, f"{name} is missing or empty")


def step_down(stage: Stage) -> None:
    """Take everything down and look for what is left."""
    stage.suanli("down")
    left = strays(stage.home.identity)
    require(not left, f"processes {[process.pid for process in left]} are left")
    require(not stage.home.runtime_dir.exists(), f"{stage.home.runtime_dir} is left")


def example(name: str) -> str:
    import examples

    return str(Path(next(iter(examples.__path__))) / name)


def _pflops(figure: dict[str, Any]) -> str:
    """As the pages have it: what nothing stands behind is none, and not zero."""
    return "none" if figure["pflops"] is None else f"{figure['pflops']:.2f}"


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _show_summary(stage: Stage, took_s: float) -> None:
    click.secho("\nsummary", fg="cyan", bold=True)
    width = max(len(what) for what, _ in stage.summary)
    for what, figure in stage.summary:
        click.echo(f"  {what.ljust(width)}  {figure}")
    click.echo(
        f"  {'reports'.ljust(width)}  {_shown(stage.out.parent / 'capacity.html')} (and .md, .json; Chinese in zh/)"
    )
    click.secho(f"demo finished in {took_s:.0f} s; every step did what it says", fg="green")
