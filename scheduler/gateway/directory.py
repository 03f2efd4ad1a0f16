"""Who may call which service, and where is it? The routing table as it is now, and whom tokens stand for.

A tenant's token reaches its own tenant's services; an operator's all, its own tenant's first where a name is taken
twice. A service is found by its path, /v1/services/NAME/..., or by the Host header where one of its hosts is named
there: then the whole path is the service's.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Protocol

from scheduler.errors import BadInput, Forbidden, NotFound, Unauthenticated
from scheduler.gateway.rates import TokenBucket
from scheduler.gateway.routing import Site, Version
from scheduler.gateway.versions import Service
from scheduler.ports import Principal, Route

DATA_PREFIX = b"/v1/services/"
OWN_PREFIX = b"/-/"


class Tokens(Protocol):
    """scheduler.tokens.TokenTable, as far as the gateway needs it."""

    def principal(self, token: str) -> Principal | None: ...


class ServiceDirectory:
    def __init__(self, tokens: Tokens, at: Site) -> None:
        self._tokens = tokens
        self._at = at
        self._services: dict[tuple[str, str], Service] = {}
        self._by_name: dict[str, list[Service]] = {}
        self._by_host: dict[bytes, list[Service]] = {}
        self._buckets: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._services)

    def __iter__(self) -> Iterator[Service]:
        return iter(self._services.values())

    def versions(self) -> Iterator[Version]:
        return (version for service in self._services.values() for version in service.versions)

    # ---- the table -----------------------------------------------------------------------------------------------

    def install(self, routes: Sequence[Route]) -> None:
        """Make `routes` the whole table. Requests in flight finish where they are."""
        now_s = time.monotonic()
        grouped: dict[tuple[str, str], list[Route]] = {}
        for route in routes:
            grouped.setdefault((route.tenant, route.service), []).append(route)
        for key in self._services.keys() - grouped.keys():
            self._services.pop(key).close(now_s)
        for key, same in grouped.items():
            service = self._services.get(key)
            if service is None:
                service = self._services[key] = Service(key[0], key[1], self._at)
            service.update(same, now_s)
        self._by_name, self._by_host = {}, {}
        for service in self._services.values():
            self._by_name.setdefault(service.name, []).append(service)
            for host in service.hosts:
                self._by_host.setdefault(host.encode(), []).append(service)
        self._set_rates(now_s)

    def close(self) -> None:
        for service in self._services.values():
            service.close(time.monotonic())

    def _set_rates(self, now_s: float) -> None:
        """One bucket a tenant, which outlives tables; where routes of a tenant differ, the lowest rate holds."""
        rates: dict[str, float] = {}
        for service in self._services.values():
            rate = service.tenant_rate_per_s
            if rate is not None and rate > 0:
                rates[service.tenant] = min(rate, rates.get(service.tenant, rate))
        for tenant in self._buckets.keys() - rates.keys():
            del self._buckets[tenant]
        for tenant, rate in rates.items():
            if tenant in self._buckets:
                self._buckets[tenant].change_rate(rate, now_s)
            else:
                self._buckets[tenant] = TokenBucket(rate, now_s)
        for service in self._services.values():
            service.bucket = self._buckets.get(service.tenant)

    # ---- requests ------------------------------------------------------------------------------------------------

    def authenticate(self, token: bytes | None) -> Principal:
        """Raises Unauthenticated, and Unavailable where nobody can be told."""
        if not token:
            raise Unauthenticated("a bearer token is needed: Authorization: Bearer TOKEN")
        principal = self._tokens.principal(token.decode("latin-1"))
        if principal is None:
            raise Unauthenticated("the bearer token is not known here")
        return principal

    def is_hosted(self, host: bytes, path: bytes) -> bool:
        """Whether a request with that Host header goes to a service, whatever its path."""
        return bool(self._by_host) and _named(host) in self._by_host and not path.startswith(OWN_PREFIX)

    def service_of(self, token: bytes | None, host: bytes, path: bytes) -> tuple[Service, bytes]:
        """The service that a request is for, and the path (as it was sent, without the query) that it is for there.

        Raises Unauthenticated, Forbidden, NotFound, BadInput or Unavailable."""
        principal = self.authenticate(token)
        if principal.role == "viewer":
            raise Forbidden("a viewer's token cannot call services")
        if self.is_hosted(host, path):
            name = _named(host).decode("latin-1")
            return self._choose(self._by_host[_named(host)], principal, f"host {name}"), path
        parts = path.split(b"/", 4)
        if len(parts) < 4 or not path.startswith(DATA_PREFIX):  # an encoded slash where a plain one belongs
            raise NotFound("there is nothing here; services are at /v1/services/NAME/...")
        name = urllib.parse.unquote(parts[3].decode("latin-1"))
        own = self._services.get((principal.tenant, name))
        if own is None:
            own = self._choose(self._by_name.get(name, ()), principal, f"service {name}")
        return own, b"/" + (parts[4] if len(parts) > 4 else b"")

    def _choose(self, found: Sequence[Service], principal: Principal, what: str) -> Service:
        own = [service for service in found if service.tenant == principal.tenant]
        if own:
            return own[0]
        others = found if principal.role == "operator" else ()
        if len(others) > 1:
            tenants = ", ".join(sorted(service.tenant for service in others))
            raise BadInput(f"{what} exists for several tenants ({tenants}): use a token of one of them")
        if not others:
            raise NotFound(f"no {what} here; `suanli queue` shows the jobs that serve")
        return others[0]


def _named(host: bytes) -> bytes:
    """A Host header without its port, in lower case."""
    if host.endswith(b"]"):
        return host.lower()
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host).lower()
