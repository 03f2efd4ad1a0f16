"""An instance of Suanli of the benchmark's own, in a private directory, brought up and ended as an operator does it.

Everything goes through public doors: `suanli up`, `suanli node join`, `suanli down` as processes, the HTTP API for
jobs, the gateway for requests. Nothing of it is left when the block ends.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from benchmarks.provenance import CHECKOUT
from benchmarks.system.serving.generators import Call
from scheduler.errors import SuanliError, Unavailable

NODE = "bench"
SITE = "dongyang-subnode"  # of both nodes: a gateway sends to another site only what its own cannot take
UP_WITHIN_S = 120.0
READY_WITHIN_S = 60.0
MARK = "SUANLI_BENCH_MARK"

Json = Mapping[str, Any]


class Client(Protocol):
    """The HTTP API, as scheduler.cli.client.Client offers it. All raise scheduler.errors.SuanliError."""

    def get(self, path: str, /, **query: Any) -> dict[str, Any]: ...

    def post(self, path: str, body: Mapping[str, Any], /) -> dict[str, Any]: ...


ClientOf = Callable[[Path], Client]
"""The client of the instance whose home that is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one request through the gateway. `took_s`: from before it was sent until the answer was whole."""

    status: int
    outputs: list[Any]
    took_s: float


class Asking:
    """One caller with one kept-open connection to one service."""

    def __init__(self, call: Call, *, timeout_s: float = 5.0) -> None:
        self._call = call
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def ask(self) -> Answer | None:
        """None where there was no answer."""
        parts = urllib.parse.urlsplit(self._call.url)
        if self._connection is None:
            self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=self._timeout_s)
        headers = {"Content-Type": "application/json", **dict(self._call.headers)}
        if self._call.token is not None:
            headers["Authorization"] = f"Bearer {self._call.token}"
        began_s = time.monotonic()
        try:
            self._connection.request("POST", parts.path, self._call.body, headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        try:
            told = json.loads(body)
        except ValueError:
            told = {}
        outputs = told.get("outputs") if isinstance(told, dict) else None
        return Answer(answer.status, outputs if isinstance(outputs, list) else [], time.monotonic() - began_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(slots=True)
class Site:
    """A running instance. `token` is its operator's."""

    directory: Path
    home: Path
    gateway: str
    token: str
    client: Client
    ray_address: str
    second: subprocess.Popen[bytes] | None = None
    second_name: str = ""
    second_mark: str = ""

    # -- services --------------------------------------------------------------------------------------------------

    def serve(self, name: str, model: Path, class_name: str, **fields: Any) -> Service:
        """A service that answers. Raises SuanliError where it does not within a minute."""
        resources = {"device": "any", "share": 0.05, "cpus": 0.5, **fields.pop("resources", {})}
        job = {
            "name": name,
            "kind": "inference",
            "model": f"{model}:{class_name}",
            "working_dir": str(self.directory),
            "resources": resources,
            **fields,
        }
        job_id = str(self.client.post("/v1/jobs", {"job": job})["jobs"][0]["id"])
        return Service(self, job_id, name)

    def cancel(self, job_id: str, *, wait: bool = True) -> None:
        self.client.post("/v1/jobs/cancel", {"ids": [job_id]})
        if not wait:
            return
        until(
            lambda: self.client.get(f"/v1/jobs/{job_id}")["state"] in ("succeeded", "failed", "cancelled"),
            within_s=READY_WITHIN_S,
            what=f"job {job_id} has ended",
        )

    # -- what can be killed ----------------------------------------------------------------------------------------

    def agent_pid(self, node: str) -> int:
        agents = self.client.get("/v1/status")["agents"]
        return next(int(agent["pid"]) for agent in agents if agent["node"] == node)

    def service_pid(self) -> int:
        return int(self.client.get("/v1/status")["service_pid"])

    def whole(self) -> bool:
        """The service answers, and all its nodes are ready."""
        wanted = {NODE, self.second_name} if self.second is not None else {NODE}
        try:
            nodes = self.client.get("/v1/nodes")["nodes"]
        except SuanliError:
            return False
        return wanted <= {node["name"] for node in nodes if node["state"] == "ready"}

    # -- a second node ---------------------------------------------------------------------------------------------

    def join_second(self, name: str) -> None:
        """This machine under another name, with directories and a Ray node of its own."""
        token = self.home / "secrets" / "ray_token"
        self.second_name, self.second_mark = name, uuid.uuid4().hex
        environment = environment_of(self.directory / name) | {MARK: self.second_mark}
        argv = ["node", "join", self.ray_address, "--site", SITE, "--name", name, "--ray-token", str(token)]
        with open(self.directory / f"{name}.log", "wb") as output:
            self.second = subprocess.Popen(
                suanli(*argv), env=environment, cwd=CHECKOUT, stdout=output, stderr=output, start_new_session=True
            )
        until(self.whole, within_s=READY_WITHIN_S, what="the second node is ready")

    def signal_second(self, number: int) -> tuple[float, set[int]]:
        """To everything of it at once: when, on the monotonic clock, and to which processes."""
        pids = marked_and_below(MARK, self.second_mark)
        at_s = time.monotonic()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return at_s, set(pids)

    def end_second(self) -> None:
        """Nothing of it is left. Nobody is told."""
        if self.second is None:
            return
        self.signal_second(signal.SIGKILL)
        self.second.wait()
        self.second = None

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self.end_second()
        _run("down", home=self.home)


@dataclass(frozen=True, slots=True)
class Service:
    """A job that serves."""

    site: Site
    job_id: str
    name: str

    def call(self, body: str, *headers: tuple[str, str]) -> Call:
        url = f"{self.site.gateway}/v1/services/{self.name}/predict"
        return Call(url, body, self.site.token, headers)

    def wait_until_it_answers(self, body: str, *, replicas: int = 1, pids: bool = False) -> set[int]:
        """Until so many replicas have answered. With `pids`, or several, an answer is the replica's pid: their set."""
        caller = Asking(self.call(body))
        seen: set[int] = set()

        def answered() -> bool:
            self._must_live()
            answer = caller.ask()
            if answer is None or answer.status != 200:
                time.sleep(0.02)
                return False
            if replicas == 1 and not pids:
                return True
            seen.add(int(answer.outputs[0]))
            return len(seen) >= replicas

        try:
            until(
                answered, within_s=READY_WITHIN_S, what=f"service {self.name} answers ({replicas} replicas)", pause_s=0
            )
        finally:
            caller.close()
        return seen

    def _must_live(self) -> None:
        view = self.site.client.get(f"/v1/jobs/{self.job_id}")
        if view["state"] in ("failed", "cancelled", "succeeded"):
            raise Unavailable(f"service {self.name} of the benchmark {view['state']}: {view['detail']}")

    def scale(self, replicas: int) -> None:
        self.site.client.post(f"/v1/jobs/{self.job_id}/scale", {"replicas": replicas})

    def cancel(self, *, wait: bool = True) -> None:
        self.site.cancel(self.job_id, wait=wait)


@contextlib.contextmanager
def own_site(client_of: ClientOf) -> Iterator[Site]:
    """Brought up when the block begins, ended with it, whatever happens. Raises SuanliError."""
    directory = Path(tempfile.mkdtemp(prefix="sb", dir="/tmp"))
    home = directory / "home"
    try:
        doors = json.loads(_run("up", "--config", str(_site_file(directory)), "-o", "json", home=home))
        known = json.loads((home / "client.json").read_text())
        client = client_of(home)
        address = str(client.get("/v1/status")["ray_address"])
        site = Site(
            directory, home, str(doors["gateway"]), Path(known["token_file"]).read_text().strip(), client, address
        )
        try:
            yield site
        finally:
            site.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _site_file(directory: Path) -> Path:
    """The site file that ships with Suanli, on free ports, with this machine alone."""
    import configs

    shipped = Path(next(iter(configs.__path__))) / "local.yaml"
    told = yaml.safe_load(shipped.read_text())
    told["include"] = {key: str(shipped.parent / name) for key, name in told["include"].items()}
    told["api"]["port"] = told["gateway"]["port"] = 0
    told["node"] |= {"name": NODE, "site": SITE, "devices": ["cpu"]}
    told.pop("simulated_nodes", None)
    path = directory / "site.yaml"
    path.write_text(yaml.safe_dump(told, allow_unicode=True))
    return path


def suanli(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "scheduler.cli", *arguments]


def environment_of(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SUANLI_", "RAY_"))}
    return kept | {"SUANLI_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}


def _run(*arguments: str, home: Path) -> str:
    """Its standard output. Raises Unavailable with its last words."""
    child = subprocess.Popen(
        suanli(*arguments),
        env=environment_of(home),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # ctrl-C is for the benchmark, which ends what it started in good order
    )
    try:
        out, err = child.communicate(timeout=UP_WITHIN_S)
    except BaseException as error:
        child.terminate()  # `up` takes back what it started
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Unavailable(f"`suanli {arguments[0]}` had not ended after {UP_WITHIN_S:g} s") from None
        raise
    if child.returncode:
        said = (err.strip().splitlines() or ["it said nothing"])[-1]
        raise Unavailable(f"`suanli {arguments[0]}` of the benchmark's own instance failed: {said[:300]}")
    return out


def until(condition: Callable[[], Any], *, within_s: float, what: str, pause_s: float = 0.05) -> None:
    """Raises Unavailable past the deadline."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise Unavailable(f"not within {within_s:g} s: {what}")
        time.sleep(pause_s)


def marked_and_below(name: str, value: str) -> list[int]:
    """Processes that carry `name=value` in their environment, and all that descend from them: what a node started for
    tenants has an environment of its own."""
    parents, marked = {}, set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
            stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
        except OSError:
            continue
        parents[int(entry)] = int(stat[stat.rindex(")") + 2 :].split()[1])
        if f"{name}={value}".encode() in environment.split(b"\0"):
            marked.add(int(entry))
    found = set(marked)
    grew = True
    while grew:
        below = {pid for pid, parent in parents.items() if parent in found} - found
        found |= below
        grew = bool(below)
    return sorted(found)
