"""What is called NAME or TENANT/NAME, services and schedules: where the API has it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode


@dataclass(frozen=True, slots=True)
class Owned:
    """`kind` is its part of the path: services, schedules."""

    kind: str

    def path(self, name: str, verb: str = "") -> str:
        return f"/v1/{self.kind}/{quote(name.rpartition('/')[2], safe='')}{verb}"

    def path_with_tenant(self, name: str, verb: str = "") -> str:
        """For requests with a body, whose query stands in the path."""
        tenant = tenant_of(name)
        return self.path(name, verb) + (f"?{urlencode(tenant)}" if tenant else "")


def tenant_of(name: str) -> dict[str, str]:
    """As a query says it; nothing where the caller's own is meant."""
    tenant = name.rpartition("/")[0]
    return {"tenant": tenant} if tenant else {}
