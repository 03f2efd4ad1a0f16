"""The store's tables. Types and constraints are those that SQLite and PostgreSQL both have.

`jobs.state` is the word that operators see, `jobs.state_json` the state itself; `live` is true until the job has ended.
`events` grows by a row with every state change, in the same transaction. Times are epoch seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

# 2: jobs.preemptions, jobs.workers_wanted, reservations, usage. 3: usage_records. 4: meta.writes, meta.leader,
# drains.deadline_s. 5: jobs.held_json. 6: schedules. 7: services, jobs.pinned. 8: what usage records say of name, site,
# models, use and achievement, usage_served, usage_months, usage_book. 9: health_notes.
# opening.py brings older stores up to this.
SCHEMA_VERSION = 9

metadata = MetaData()

# SQLite gives row numbers of its own to INTEGER keys alone; PostgreSQL wants 8 bytes for a table that only grows.
_GROWING = BigInteger().with_variant(Integer, "sqlite")

# One row (id 1). `next_number` is the next job's number (an array takes one), `next_seq` the next place in order.
# `writes` counts the transactions of services (see writing.py), `leader` is where the service of `epoch` is found.
meta = Table(
    "meta",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("epoch", _GROWING, nullable=False),
    Column("next_number", _GROWING, nullable=False),
    Column("next_seq", _GROWING, nullable=False),
    Column("writes", _GROWING, nullable=False, server_default=text("0")),
    Column("leader", Text),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("seq", _GROWING, nullable=False, unique=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("live", Boolean, nullable=False),
    Column("spec_json", Text, nullable=False),
    Column("state_json", Text, nullable=False),
    Column("submitted_by", Text, nullable=False),
    Column("submitted_s", Float(53), nullable=False),
    Column("ended_s", Float(53)),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("resume_from", Text),
    Column("array_index", Integer),
    Column("first_started_s", Float(53)),
    Column("preemptions", Integer, nullable=False, server_default=text("0")),
    Column("workers_wanted", Integer),
    Column("held_json", Text),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    Index("jobs_live", "live", "seq"),
    Index("jobs_tenant", "tenant", "seq"),
    Index("jobs_state", "state", "seq"),
)

events = Table(
    "events",
    metadata,
    Column("seq", _GROWING, primary_key=True, autoincrement=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("event", String(64), nullable=False),
    Column("state", String(32), nullable=False),
    Column("detail_json", Text, nullable=False),
    Index("events_job", "job_id", "seq"),
    sqlite_autoincrement=True,
)

results = Table(
    "results",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker", Integer, primary_key=True),
    Column("result_json", Text, nullable=False),
)

drains = Table(
    "drains",
    metadata,
    Column("node", String(255), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("deadline_s", Float(53)),
)

# What nights and checks hold against a node's devices (ports.HealthNotes), as it was last said. An empty list stays: it
# is what an agent is to hear that has slept through the word that its node is mended.
health_notes = Table(
    "health_notes",
    metadata,
    Column("node", String(255), primary_key=True),
    Column("source", String(32), primary_key=True),
    Column("findings_json", Text, nullable=False),
)

# `nodes_json` and `tenants_json` are lists of names; `every_s` is null for a reservation that does not come again.
reservations = Table(
    "reservations",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("nodes_json", Text, nullable=False),
    Column("start_s", Float(53), nullable=False),
    Column("end_s", Float(53), nullable=False),
    Column("every_s", Float(53)),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("made_s", Float(53), nullable=False),
    Column("tenants_json", Text, nullable=False),
)

# Jobs that are submitted again and again (ports.Schedule). `next_s` is null while one is paused.
schedules = Table(
    "schedules",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("spec_json", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("by_operator", Boolean, nullable=False),
    Column("made_s", Float(53), nullable=False),
    Column("next_s", Float(53)),
    Column("paused_json", Text),
    Column("runs", Integer, nullable=False),
    Column("last_job", String(64)),
    Column("last_s", Float(53)),
    Column("skips", Integer, nullable=False),
    Column("skipped_s", Float(53)),
    Column("skipped_why", Text, nullable=False),
)

# Services and their versions (core.rollout.Deployed).
services = Table(
    "services",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("service_json", Text, nullable=False),
)

# What fair share remembers: all rows are of the same moment, and replaced together.
usage = Table(
    "usage",
    metadata,
    Column("account", String(255), primary_key=True),
    Column("average", Float(53), nullable=False),
    Column("at_s", Float(53), nullable=False),
)

# What ran where for how long, a row a run (core.usage_records). `devices_json` is a list of indices on the node; `seen`
# is false where nobody saw the end. `write_number` is what meta.writes was when the row was last written: what changed
# since a month was closed is found by it.
usage_records = Table(
    "usage_records",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("worker", Integer, primary_key=True, autoincrement=False),
    Column("tenant", Text, nullable=False),
    Column("priority_class", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("node", String(255), nullable=False),
    Column("devices_json", Text, nullable=False),
    Column("share_milli", Integer, nullable=False),
    Column("cpus_milli", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("from_s", Float(53), nullable=False),
    Column("to_s", Float(53), nullable=False),
    Column("seen", Boolean, nullable=False),
    Column("cause", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=text("''")),
    Column("site", Text),
    Column("models_json", Text),
    Column("use_json", Text),
    Column("achieved_json", Text),
    Column("write_number", _GROWING, nullable=False, server_default=text("0")),
    Index("usage_records_end", "to_s"),
    Index("usage_records_tenant", "tenant", "to_s"),
    Index("usage_records_write", "write_number"),
)

# What the gateways said that services answered, added up by day (YYYY-MM-DD in the site's time zone): of replicas on
# real and on simulated devices apart.
usage_served = Table(
    "usage_served",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("tenant", String(63), primary_key=True),
    Column("service", String(100), primary_key=True),
    Column("simulated", Boolean, primary_key=True),
    Column("requests", _GROWING, nullable=False),
    Column("answered", _GROWING, nullable=False),
    Column("within_slo", _GROWING, nullable=False),
    Column("errors", _GROWING, nullable=False),
)

# Months whose usage was closed, never changed again. `write_number` as in usage_records: what was written up to then is
# in the month's book. `rates_json`: the measured rates that its device-seconds are multiplied with.
usage_months = Table(
    "usage_months",
    metadata,
    Column("month", String(7), primary_key=True),
    Column("zone", Text, nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=False),
    Column("closed_s", Float(53), nullable=False),
    Column("by", Text, nullable=False),
    Column("write_number", _GROWING, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("rates_json", Text, nullable=False),
)

# The entries of closed months (core.usage_book): of what ran in `of_month`, booked in `in_month`, which is a later one
# for corrections alone. `key` names the run or the service.
usage_book = Table(
    "usage_book",
    metadata,
    Column("in_month", String(7), ForeignKey("usage_months.month"), primary_key=True),
    Column("of_month", String(7), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("entry_json", Text, nullable=False),
    Index("usage_book_key", "key"),
)
