"""What is wrong with a job, or beyond its token's rights, is said with line and field, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import BadInput, Forbidden
from scheduler.ports import Principal
from scheduler.schema.jobfile import check_shape, job_from_mapping, resolve_paths
from scheduler.schema.model import SiteConfig
from scheduler.schema.yaml_source import parse_yaml
from tests.fakes.job_texts import GOOD, SERVICE, messages, parse

# ---- bad ones ----------------------------------------------------------------------------------------------------

BAD: list[tuple[str, str, list[str]]] = [
    # text added to (or replacing) a good job; the beginning of the line expected; what else the message holds
    (
        "unknown field",
        GOOD + "comand: x\n",
        ["job.yaml:5: comand: unknown field; expected one of name,", "mean command?"],
    ),
    ("unknown field below", GOOD + "resources:\n  devise: any\n", ["job.yaml:6: resources.devise: unknown", "device?"]),
    (
        "unknown field in a list",
        GOOD + "resources:\n- device: any\n- gpus: 1\n",
        ["job.yaml:7: resources[1].gpus: unknown field; expected one of device, count,"],
    ),
    (
        "unknown field of a checkpoint",
        GOOD + "checkpoint: {dir: /c, graze: 3s}\n",
        ["checkpoint.graze: unknown", "grace?"],
    ),
    ("no name", GOOD.replace("name: t\n", ""), ["job.yaml:1: name: required, and not given"]),
    ("no kind", GOOD.replace("kind: batch\n", ""), ["job.yaml:1: kind: required, and not given"]),
    (
        "kind",
        GOOD.replace("batch", "bach"),
        ["job.yaml:2: kind: expected one of training,", "'bach' (did you mean batch?)"],
    ),
    ("no command", GOOD.replace("command: [/bin/true]\n", ""), ["job.yaml:1: command: required, and not given"]),
    (
        "empty command",
        GOOD.replace("[/bin/true]", "[]"),
        ["job.yaml:3: command: expected a command", "got a list of 0"],
    ),
    ("blank command", GOOD.replace("[/bin/true]", '" "'), ["job.yaml:3: command: expected a command"]),
    ("number in command", GOOD.replace("/bin/true", "/bin/echo, 60"), ["job.yaml:3: command:", "numbers in quotes"]),
    ("command and model", SERVICE + "command: x\n", ["job.yaml:3: model: expected either command or model"]),
    (
        "model of a batch job",
        "name: t\nkind: batch\nmodel: /a.py:A\ntime_limit: 1\n",
        ["job.yaml:3: model: is for kind inf"],
    ),
    (
        "model without class",
        SERVICE.replace("m.py:M", "m.py"),
        ['job.yaml:3: model: expected a model as "path/to/file.py:Cl'],
    ),
    ("model that is no class", SERVICE.replace(":M", ":1M"), ["job.yaml:3: model: expected a model", "got 'm.py:1M'"]),
    *(
        (
            f"no time limit for {kind}",
            GOOD.replace("batch", kind).replace("time_limit: 1m\n", ""),
            [f"job.yaml:1: time_limit: required for kind {kind}", '"2h30m"'],
        )
        for kind in ("training", "batch", "benchmark")
    ),
    ("null time limit", GOOD.replace("1m", "null"), ["job.yaml:4: time_limit: required for kind batch"]),
    ("time limit as text", GOOD.replace("1m", '"90"'), ["job.yaml:4: time_limit: expected a duration", "got '90'"]),
    ("time limit of zero", GOOD.replace("1m", "0"), ["job.yaml:4: time_limit: expected a duration", "above 0; got 0"]),
    ("negative time limit", GOOD.replace("1m", "-5"), ["job.yaml:4: time_limit: expected", "got -5"]),
    ("infinite time limit", GOOD.replace("1m", ".inf"), ["job.yaml:4: time_limit: expected a duration", "got inf"]),
    ("workers of zero", GOOD + "workers: 0\n", ["job.yaml:5: workers: expected a whole number from 1", "got 0"]),
    ("negative workers", GOOD + "workers: -2\n", ["job.yaml:5: workers: expected a whole number from 1", "got -2"]),
    ("workers as text", GOOD + 'workers: "2"\n', ["job.yaml:5: workers: expected a whole number from 1", "got '2'"]),
    ("workers as a fraction", GOOD + "workers: 1.5\n", ["job.yaml:5: workers: expected a whole number", "got 1.5"]),
    ("workers as a flag", GOOD + "workers: true\n", ["job.yaml:5: workers: expected a whole number", "got true"]),
    (
        "workers upside down",
        GOOD + "workers: {min: 4, max: 2}\n",
        ["job.yaml:5: workers.max: expected at least min, which is 4"],
    ),
    ("workers without max", GOOD + "workers: {min: 4}\n", ["job.yaml:5: workers.max: required"]),
    (
        "workers.min of zero",
        GOOD + "workers:\n  min: 0\n  max: 2\n",
        ["job.yaml:6: workers.min: expected a whole", "got 0"],
    ),
    ("replicas of a batch job", GOOD + "replicas: 2\n", ["job.yaml:5: replicas: kind batch counts workers"]),
    ("workers of a service", SERVICE + "workers: 2\n", ["job.yaml:5: workers: kind inference counts replicas"]),
    ("no cron", GOOD + "schedule: nightly\n", ["job.yaml:5: schedule: expected a cron expression of five fields"]),
    (
        "a bad hour",
        GOOD + 'schedule: {cron: "0 25 * * *"}\n',
        ["job.yaml:5: schedule.cron: expected a cron expression", "(bad hour); got '0 25 * * *'"],
    ),
    (
        "a zone that is none",
        GOOD + 'schedule: {cron: "0 2 * * *", zone: Asia/Shanghia}\n',
        ["schedule.zone: expected the name of a time zone", "did you mean Asia/Shanghai"],
    ),
    (
        "a misfire rule that is none",
        GOOD + 'schedule: {cron: "0 2 * * *", misfire: later}\n',
        ["schedule.misfire: expected one of once, skip; got 'later'"],
    ),
    ("a schedule without times", GOOD + "schedule: {zone: UTC}\n", ["job.yaml:5: schedule.cron: required"]),
    (
        "a recurring job after others",
        GOOD + 'schedule: "0 2 * * *"\nafter: [7]\n',
        ["job.yaml:6: after: names jobs of one time"],
    ),
    (
        "a recurring job until a date",
        GOOD + 'schedule: "0 2 * * *"\ndeadline: "2026-12-01T02:00+08:00"\n',
        ["job.yaml:6: deadline: of a job with a schedule: a duration"],
    ),
    (
        "a recurring service",
        SERVICE + 'schedule: "0 2 * * *"\n',
        ["job.yaml:5: schedule: kind inference has no end and so no next time"],
    ),
    ("array of a service", SERVICE + "array: 2\n", ["job.yaml:5: array: kind inference cannot be an array"]),
    ("slo of a batch job", GOOD + "slo: {p99_ms: 5}\n", ["job.yaml:5: slo: is for kind inference"]),
    ("slo of zero", SERVICE + "slo: {p99_ms: 0}\n", ["job.yaml:5: slo.p99_ms: expected milliseconds", "got 0"]),
    (
        "count of zero",
        GOOD + "resources: {count: 0}\n",
        ["job.yaml:5: resources.count: expected a whole number from 1", "got 0"],
    ),
    ("negative count", GOOD + "resources: {count: -1}\n", ["job.yaml:5: resources.count:", "got -1"]),
    ("count as text", GOOD + 'resources: {count: "1"}\n', ["job.yaml:5: resources.count: expected a whole", "got '1'"]),
    ("whole share", GOOD + "resources: {share: 1}\n", ["job.yaml:5: resources.share: expected a share", "got 1"]),
    ("share of zero", GOOD + "resources: {share: 0}\n", ["job.yaml:5: resources.share: expected a share", "got 0"]),
    (
        "fine share",
        GOOD + "resources: {share: 0.12345}\n",
        ["resources.share: expected", "steps of 0.001", "got 0.12345"],
    ),
    (
        "count and share",
        GOOD + "resources:\n  count: 1\n  share: 0.5\n",
        ["job.yaml:7: resources.share: expected either count"],
    ),
    (
        "no device, counted",
        GOOD + "resources: {device: none, count: 1}\n",
        ["job.yaml:5: resources.count: device none asks"],
    ),
    ("cpus of zero", GOOD + "resources: {cpus: 0}\n", ["job.yaml:5: resources.cpus: expected CPUs", "got 0"]),
    (
        "memory without unit",
        GOOD + "resources: {memory: 2G}\n",
        ["job.yaml:5: resources.memory: expected a size", "'2GiB'"[1:-1]],
    ),
    ("negative memory", GOOD + "resources: {memory: -1}\n", ["job.yaml:5: resources.memory:", "got -1"]),
    (
        "simulated as text",
        GOOD + "resources: {simulated: 'yes'}\n",
        ["job.yaml:5: resources.simulated: expected true or false"],
    ),
    ("deadline without a zone", GOOD + "deadline: 2026-12-01T02:00\n", ["job.yaml:5: deadline: expected a time with"]),
    ("deadline as words", GOOD + "deadline: soon\n", ["deadline: expected a duration from submission", "'soon'"]),
    ("deadline of zero", GOOD + "deadline: 0\n", ["job.yaml:5: deadline: expected a duration from", "got 0"]),
    ("a day that is none", GOOD + "deadline: 2026-13-01T00:00Z\n", ["job.yaml:5: deadline: expected a time with its"]),
    ("deadline of a service", SERVICE + "deadline: 6h\n", ["job.yaml:5: deadline: kind inference has no end"]),
    ("within a cabinet", GOOD + "within: rak\n", ["job.yaml:5: within: expected one of island, node, rack", "rack?"]),
    (
        "one a node, all within one",
        GOOD + "within: node\none_per: node\n",
        ["job.yaml:6: one_per: at most one worker in each node contradicts within: node"],
    ),
    (
        "spread over racks, all within a node",
        GOOD + "within: node\nspread: rack\n",
        ["job.yaml:6: spread: spread over several rack contradicts within: node"],
    ),
    ("apart from itself", GOOD + "apart_from: [a, t]\n", ["job.yaml:5: apart_from: names the job itself", "one_per"]),
    ("apart from a number", GOOD + "apart_from: [7]\n", ["job.yaml:5: apart_from: expected a list of names", "ids"]),
    ("reservation of a bad name", GOOD + "reservation: a b\n", ["job.yaml:5: reservation: expected a name", "'a b'"]),
    (
        "label as a number",
        GOOD + "resources: {labels: {gen: 4}}\n",
        ["resources.labels.gen: expected a label", "got 4"],
    ),
    ("labels as a list", GOOD + "resources: {labels: [a]}\n", ["resources.labels: expected a mapping of labels"]),
    (
        "label's name",
        GOOD + "resources: {device_labels: {'-a': x}}\n",
        ["resources.device_labels.-a: expected a label"],
    ),
    ("mig profile", GOOD + "resources: {mig: 1g}\n", ['resources.mig: expected a MIG profile such as "1g.10gb"', "1g"]),
    ("mig of none", GOOD + "resources: {device: none, mig: 1g.5gb}\n", ["resources.mig: device none asks for no"]),
    ("no alternatives", GOOD + "resources: []\n", ["job.yaml:5: resources: expected one demand", "got a list of 0"]),
    ("resources as text", GOOD + "resources: H100\n", ["job.yaml:5: resources: expected one demand", "got 'H100'"]),
    (
        "an alternative as text",
        GOOD + "resources:\n- H100\n",
        ["job.yaml:6: resources[0]: expected a mapping", "got 'H100'"],
    ),
    (
        "device not in the catalogue",
        GOOD + "resources: {device: H100 SMX}\n",
        [
            "job.yaml:5: resources.device: expected a model of the hardware catalogue, a vendor (nvidia,",
            "mean H100 SXM",
        ],
    ),
    (
        "device of the second alternative",
        GOOD + "resources:\n  - device: any\n  - device: Ascend 910D\n",
        ["job.yaml:7: resources[1].device: expected a model", "Ascend 910"],
    ),
    (
        "device as a number",
        GOOD + "resources: {device: 4090}\n",
        ["job.yaml:5: resources.device: expected text (put it in"],
    ),
    (
        "site",
        GOOD + "resources: {site: edge-clod}\n",
        ["job.yaml:5: resources.site: expected one of dongyang-subnode,", "edge-cloud?"],
    ),
    (
        "priority class",
        GOOD + "priority_class: low-altitud\n",
        ["job.yaml:5: priority_class: expected one of emergency,", "low-altitude?"],
    ),
    (
        "tenant",
        GOOD + "tenant: hospitl\n",
        ["job.yaml:5: tenant: expected one of operations,", "(did you mean hospital?)"],
    ),
    (
        "negative retries",
        GOOD + "retries: -1\n",
        ["job.yaml:5: retries: expected a whole number from 0 to 100", "got -1"],
    ),
    (
        "checkpoint without dir",
        GOOD + "checkpoint:\n  grace: 3s\n",
        ["job.yaml:5: checkpoint.dir: required, and not given"],
    ),
    ("checkpoint as text", GOOD + "checkpoint: /c\n", ["job.yaml:5: checkpoint: expected a mapping", "got '/c'"]),
    (
        "a signal that cannot be caught",
        GOOD + "checkpoint: {dir: /c, signal: SIGKILL}\n",
        ["checkpoint.signal: expected a signal that a program can be asked with", "SIGUSR1, SIGUSR2", "got 'SIGKILL'"],
    ),
    (
        "a signal that means something else",
        GOOD + "checkpoint: {dir: /c, signal: SIGCHLD}\n",
        ["checkpoint.signal: expected a signal that a program can be asked with", "got 'SIGCHLD'"],
    ),
    ("a signal's number", GOOD + "checkpoint: {dir: /c, signal: 10}\n", ["checkpoint.signal: expected", "got 10"]),
    (
        "no time to go",
        GOOD + "checkpoint: {dir: /c, kill_wait: 0s}\n",
        ["checkpoint.kill_wait: expected a duration", "above 0"],
    ),
    (
        "grace too long",
        GOOD + "checkpoint: {dir: /c, grace: 2h}\n",
        ["checkpoint.grace: expected a duration", "to 3600 s"],
    ),
    (
        "checkpoint nowhere",
        GOOD + "checkpoint: {dir: c}\n",
        ["job.yaml:5: checkpoint.dir: expected an absolute path", "'c'"],
    ),
    ("model nowhere", SERVICE.replace("working_dir: /srv\n", ""), ["job.yaml:3: model: expected an absolute path"]),
    (
        "relative working_dir",
        GOOD + "working_dir: src\n",
        ["job.yaml:5: working_dir: expected an absolute path", "got 'src'"],
    ),
    ("env as list", GOOD + "env: [A=1]\n", ["job.yaml:5: env: expected a mapping of variables", "got a list of 1"]),
    ("env name", GOOD + "env:\n  OK: 1\n  A-B: 1\n", ["job.yaml:7: env.A-B: expected a variable name", "got 'A-B'"]),
    (
        "env flag",
        GOOD + "env: {A: true}\n",
        ["job.yaml:5: env.A: expected text or a number (put true and false in quotes)"],
    ),
    ("env null", GOOD + "env: {A: null}\n", ["job.yaml:5: env.A: expected text or a finite number"]),
    *(
        (
            f"env {name}",
            GOOD + f"env: {{{name}: x}}\n",
            [f"job.yaml:5: env.{name}: expected variables of the job's own"],
        )
        for name in ("SUANLI_EPOCH", "RAY_ADDRESS", "ray_x", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
    ),
    (
        "env visibility",
        GOOD + "env: {ASCEND_RT_VISIBLE_DEVICES: 1}\n",
        ["env.ASCEND_RT_VISIBLE_DEVICES: expected variables"],
    ),
    ("array of zero", GOOD + "array: 0\n", ["job.yaml:5: array: expected a whole number from 1 to 10000", "got 0"]),
    (
        "array with a bad limit",
        GOOD + "array: {count: 10, limit: 0}\n",
        ["job.yaml:5: array.limit: expected a whole number from 1 to 10000; got 0"],
    ),
    ("array without a count", GOOD + "array: {limit: 2}\n", ["job.yaml:5: array.count: required, and not given"]),
    ("array of another kind", GOOD + "array: 10%2\n", ["1 to 10000, or {count: N, limit: HOW MANY AT A TIME}"]),
    ("array too long", GOOD + "array: 10001\n", ["job.yaml:5: array: expected a whole number from 1 to 10000"]),
    (
        "after a number that is no id",
        GOOD + "after: [7.1]\n",
        ["job.yaml:5: after: expected a list of job ids", "in quotes"],
    ),
    ("after nothing", GOOD + "after: []\n", ["job.yaml:5: after: expected a list of job ids"]),
    ("after last", GOOD + "after: last\n", ["job.yaml:5: after: expected a list of job ids"]),
    (
        "name",
        GOOD.replace("name: t", "name: a b/c"),
        ["job.yaml:1: name: expected a name of ASCII letters,", "got 'a b/c'"],
    ),
    ("name as a number", GOOD.replace("name: t", "name: 7"), ["job.yaml:1: name: expected a name", "got 7"]),
    ("a list", "- 1\n", ["job.yaml:1: expected a mapping of fields (name: value); got a list of 1"]),
    ("nothing", "", ["job.yaml:1: expected a mapping of fields (name: value); got nothing"]),
]


@pytest.mark.parametrize(("text", "parts"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_jobs(text: str, parts: list[str], site: SiteConfig, operator: Principal) -> None:
    found = messages(text, site, operator)
    assert len(found) == 1, found
    for part in parts:
        assert part in found[0]


def test_all_faults_come_at_once_in_the_order_of_the_file(site: SiteConfig, operator: Principal) -> None:
    text = (
        "name: t\nkind: training\ncommnd: x\nworkers: 0\nresources:\n- {device: H10O SXM, count: 0}\n"
        "priority_class: urgent\nretries: many\n"
    )
    fields = [line.split(": ")[0:2] for line in messages(text, site, operator)]
    assert fields == [
        ["job.yaml:1", "command"],
        ["job.yaml:1", "time_limit"],
        ["job.yaml:3", "commnd"],
        ["job.yaml:4", "workers"],
        ["job.yaml:6", "resources[0].count"],
        ["job.yaml:6", "resources[0].device"],
        ["job.yaml:7", "priority_class"],
        ["job.yaml:8", "retries"],
    ]


def test_the_error_names_its_first_field(site: SiteConfig, operator: Principal) -> None:
    with pytest.raises(BadInput) as caught:
        parse(GOOD + "workers: 0\nretries: -1\n", site, operator)
    assert caught.value.field == "workers"


def test_a_secret_is_never_echoed(site: SiteConfig, operator: Principal) -> None:
    found = messages(GOOD + 'env: {TOKEN: "hunter2\\0"}\n', site, operator)
    assert "env.TOKEN" in found[0]
    assert "hunter2" not in found[0]


def test_a_request_has_no_lines(site: SiteConfig, operator: Principal) -> None:
    with pytest.raises(BadInput) as caught:
        job_from_mapping({"name": "t", "kind": "batch"}, source="job", lines=None, site=site, principal=operator)
    assert caught.value.message.splitlines()[1].startswith("job: time_limit: required for kind batch")


def test_the_client_side_knows_no_site_and_takes_relative_paths() -> None:
    document = parse_yaml(GOOD + "working_dir: src\nresources: {device: Whatever 9}\npriority_class: x\n", "j")
    check_shape(document.data, "j", document.lines)
    with pytest.raises(BadInput, match="j:8: workers: expected"):
        check_shape({**document.mapping(), "workers": 0}, "j", {**document.lines, "workers": 8})


@pytest.mark.parametrize(
    ("written", "made"),
    [(None, "/home/me"), (".", "/home/me"), ("a/../b", "/home/me/b"), ("../x", "/home/x"), ("/srv/", "/srv")],
)
def test_working_dir_becomes_absolute(written: str | None, made: str) -> None:
    data: dict[str, Any] = {"name": "t"} if written is None else {"name": "t", "working_dir": written}
    assert resolve_paths(data, Path("/home/me")) == {"name": "t", "working_dir": made}


def test_a_working_dir_of_the_wrong_type_is_left_to_be_refused() -> None:
    assert resolve_paths({"working_dir": 7}, Path("/home/me")) == {"working_dir": 7}


# ---- rights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "tenant", "highest", "extra", "parts"),
    [
        (
            "tenant",
            "film-studio",
            "production",
            "tenant: hospital\n",
            ["tenant: 'hospital' is not 'film-studio'", "'tok'"],
        ),
        ("tenant", "gone", "normal", "", ["tenant 'gone', which is not in the site's configuration", "operations"]),
        ("viewer", "operations", "emergency", "", ["is a viewer's and may not submit"]),
        (
            "tenant",
            "film-studio",
            "normal",
            "priority_class: production\n",
            ["'production' is above 'normal', the highest class of token 'tok'; use one of normal, best-effort"],
        ),
        (
            "tenant",
            "film-studio",
            "emergency",
            "priority_class: low-altitude\n",
            ["'low-altitude' is above 'production', the highest class of tenant 'film-studio'"],
        ),
        ("operator", "operations", "normal", "priority_class: emergency\n", ["'emergency' is above 'normal'"]),
        ("tenant", "film-studio", "gold", "", ["the highest class of token 'tok' is 'gold', which is not in"]),
        ("tenant", "film-studio", "best-effort", "", ["'normal' is above 'best-effort'"]),
    ],
)
def test_what_a_token_may_not(
    role: Any, tenant: str, highest: str, extra: str, parts: list[str], site: SiteConfig
) -> None:
    with pytest.raises(Forbidden) as caught:
        parse(GOOD + extra, site, Principal("tok", tenant, role, highest))
    for part in parts:
        assert part in caught.value.message


def test_best_effort_is_free_to_everybody(site: SiteConfig) -> None:
    spec = parse(GOOD + "priority_class: best-effort\n", site, Principal("tok", "hospital", "tenant", "gone"))
    assert (spec.priority_class, spec.tenant) == ("best-effort", "hospital")


def test_an_operator_may_submit_for_a_tenant_beyond_that_tenants_class(site: SiteConfig, operator: Principal) -> None:
    spec = parse(GOOD + "tenant: film-studio\npriority_class: emergency\n", site, operator)
    assert (spec.tenant, spec.priority) == ("film-studio", 1000)


def test_faults_of_form_come_before_rights(site: SiteConfig, film: Principal) -> None:
    with pytest.raises(BadInput, match="workers"):
        parse(GOOD + "workers: 0\ntenant: hospital\n", site, film)
    with pytest.raises(Forbidden):
        parse(GOOD + "tenant: hospital\n", site, film)
