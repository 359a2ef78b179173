"""Which of the proxy's prepared backends stands for which revision, and which of its servers for which pod.

HAProxy's backends are fixed when it starts, revisions come and go. So it starts with a pool of empty ones, and this
book-keeping says who has which. A backend goes to another revision only when no table names the old one and nothing
is in flight there.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from strategyrollout.api.meta import LABEL_REVISION
from strategyrollout.core.routing import BACKENDS, SERVERS, UnusableTable, backend_names

# Columns of the proxy's answer to `show servers state`.
_BACKEND, _SERVER, _ADDRESS, _ADMIN_STATE, _PORT = 1, 3, 4, 6, 18

Address = tuple[str, int]


class Backends:
    """Revision -> backend, and pod address -> server within it."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self._servers: dict[str, dict[Address, int]] = {name: {} for name in backend_names()}

    def assign(self, revisions: Iterable[str], busy: Iterable[str]) -> None:
        """Give every revision a backend that is nobody's and not busy; raises UnusableTable when there is none."""
        assigned = dict(self.of)
        for revision in sorted(set(revisions) - assigned.keys()):
            taken = {*assigned.values(), *busy}
            free = next((name for name in backend_names() if name not in taken), None)
            if free is None:
                raise UnusableTable(f"no free backend for revision {revision}; a router serves {BACKENDS} at a time")
            assigned[revision] = free
        self.of = assigned

    def keep(self, revisions: Iterable[str]) -> None:
        """Forget all other revisions."""
        kept = set(revisions)
        self.of = {revision: name for revision, name in self.of.items() if revision in kept}

    def adopt(self, assigned: Mapping[str, str]) -> None:
        """Take over what an agent before this one assigned in the same proxy."""
        self.of = {revision: name for revision, name in assigned.items() if name in self._servers}

    def learn(self, servers_state: str) -> None:
        """Take over which server is which pod from the proxy's own answer to `show servers state`."""
        self._servers = {name: {} for name in backend_names()}
        for line in servers_state.splitlines():
            fields = line.split()
            if len(fields) > _PORT and fields[_BACKEND] in self._servers and fields[_ADMIN_STATE] == "0":
                address = (fields[_ADDRESS], int(fields[_PORT]))
                self._servers[fields[_BACKEND]][address] = int(fields[_SERVER].removeprefix("s"))

    def commands(self, ready: Mapping[str, frozenset[Address]]) -> list[str]:
        """What the proxy must be told so that every assigned backend has exactly these pods; they must be sent."""
        lines: list[str] = []
        for revision, name in self.of.items():
            wanted = ready.get(revision, frozenset())
            # New pods first: there must be no instant without any.
            lines += self._add(name, wanted)
            lines += self._remove(name, wanted)
            lines += self._add(name, wanted)
        return lines

    def _add(self, name: str, wanted: frozenset[Address]) -> list[str]:
        servers = self._servers[name]
        taken = set(servers.values())
        unused = [i for i in range(1, SERVERS + 1) if i not in taken]
        lines = []
        for address, index in zip(sorted(wanted - servers.keys()), unused, strict=False):
            servers[address] = index
            lines.append(f"set server {name}/s{index} addr {address[0]} port {address[1]}")
            lines.append(f"set server {name}/s{index} state ready")
        return lines

    def _remove(self, name: str, wanted: frozenset[Address]) -> list[str]:
        servers = self._servers[name]
        gone = [address for address in servers if address not in wanted]
        # Maintenance: nothing new goes there; what is in flight ends by itself.
        return [f"set server {name}/s{servers.pop(address)} state maint" for address in gone]


def ready_addresses(slices: Iterable[Mapping[str, Any]], port_name: str) -> dict[str, frozenset[Address]]:
    """Revision -> addresses of its ready pods, from EndpointSlices."""
    found: dict[str, set[Address]] = {}
    for item in slices:
        revision = (item["metadata"].get("labels") or {}).get(LABEL_REVISION)
        port = next((p.get("port") for p in item.get("ports") or () if p.get("name") == port_name), None)
        if not revision or not port:
            continue
        addresses = found.setdefault(revision, set())
        for endpoint in item.get("endpoints") or ():
            # Not said means ready (API of EndpointSlice).
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                addresses.update((address, port) for address in endpoint.get("addresses") or ())
    return {revision: frozenset(addresses) for revision, addresses in found.items()}
