"""A service as a process of its own that stands by, leads and stands down as the real one does, on an engine without
nodes: `python -m tests.fakes.leading_service STORE_URL PORT TOKENS`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from scheduler.api.app import create_app
from scheduler.cli.leading import Door, end_on_sigterm, lead, may_lead, start_over
from scheduler.cli.system_clock import SystemClock
from scheduler.core.decisions import Policy
from scheduler.service.control import Service
from scheduler.store.leadership import Leadership, lock_of
from scheduler.store.sql import open_store
from scheduler.tokens import TokenTable
from tests.fakes.fake_control import parse_job
from tests.fakes.fake_engine import FakeEngine, node_facts
from tests.fakes.fake_gateway import FakeGateway
from tests.fakes.service_world import CLASS_OF, SECRET


def main(url: str, port: str, tokens: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    end_on_sigterm()
    store = open_store(url)
    door = Door(f"http://127.0.0.1:{port}", "127.0.0.1", int(port))
    leadership = Leadership(lock_of(store), store)
    if not may_lead(door, leadership):
        return
    clock = SystemClock()
    service = Service(
        store,
        FakeEngine(clock, node_facts("n1", 8)),
        FakeGateway(),
        clock,
        policy=Policy(),
        priority_classes={name: priority for priority, name in CLASS_OF.items()},
        lease_s=60.0,
        secret=SECRET,
        status_extra={"version": "test", "service_pid": os.getpid(), "api": door.url},
        found_at=door.url,
    )
    app = create_app(service, TokenTable(Path(tokens)), parse_job, {}, version="test")
    if lead(door, leadership, service, app, started=lambda: None):
        start_over()


if __name__ == "__main__":
    main(*sys.argv[1:])
