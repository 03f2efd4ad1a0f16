"""How a verb talks to the service: HTTP with a bearer token, answers as JSON, failures as scheduler.errors.

Standard library only, because every reading command starts by importing this. Where the service is and who asks comes
from `$SUANLI_HOME/client.json`, or from SUANLI_API with SUANLI_TOKEN or SUANLI_TOKEN_FILE.
"""

from __future__ import annotations

import http.client
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from scheduler.cli import other_version
from scheduler.errors import BadInput, NotFound, SuanliError, Unauthenticated, Unavailable, from_wire

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
# A connection that rested longer may have been closed by the other side, and a POST must not be sent twice.
REUSE_WITHIN_S = 2.0
POLL_SLICE_S = 30.0
LOG_CHUNK_BYTES = 256 * 1024
LOG_POLL_S = 0.25
ENDED_STATES = frozenset({"succeeded", "failed", "cancelled"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Json = dict[str, Any]


def home_path() -> Path:
    """Raises BadInput where nothing says where the instance is."""
    try:
        return Path(os.environ.get("SUANLI_HOME") or Path.home() / ".suanli").absolute()
    except (RuntimeError, OSError) as error:  # a user without a home, a working directory that is gone
        raise BadInput(f"where is the instance? Set SUANLI_HOME to its directory ({error})") from None


@dataclass(frozen=True, slots=True)
class LogPart:
    """Octets of a log. `end`: the run is over and nothing follows. `skipped`: so many before these were not kept."""

    data: bytes
    next_offset: int
    end: bool
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """One caller of one API. Not thread-safe: it keeps one connection."""

    def __init__(self, api: str, token: str, *, ca_file: str | None = None) -> None:
        self.api = api.rstrip("/")
        self._url = _checked_url(self.api)
        self._token = token
        self._ca_file = ca_file
        self._connection: http.client.HTTPConnection | None = None
        self._last_used_s = 0.0

    @classmethod
    def from_env(cls) -> Client:
        """The service that the environment names, else the one of the instance's home."""
        home = home_path()
        api = os.environ.get("SUANLI_API")
        token = os.environ.get("SUANLI_TOKEN")
        token_file = os.environ.get("SUANLI_TOKEN_FILE")
        known = _client_json(home)
        if api is None:
            if known is None:
                raise Unavailable(
                    f"no Suanli service is known here: {home / 'client.json'} does not exist; start one with "
                    "`suanli up`, or set SUANLI_API and SUANLI_TOKEN_FILE"
                )
            api = str(known["api"])
        ours = known is not None and api.rstrip("/") == str(known["api"]).rstrip("/")
        if token is None:
            if token_file is None and ours and known is not None:
                token_file = known.get("token_file")
            if token_file is None:
                # The token of this home is never sent to another address than its own.
                raise Unauthenticated(f"which token for {api}? Set SUANLI_TOKEN_FILE to a file that holds it")
            token = _token_in(Path(token_file))
        return cls(api, token, ca_file=known.get("ca_file") if known is not None else None)

    @classmethod
    def from_home(cls, home: Path) -> Client:
        """The service of one instance, whatever the environment says."""
        known = _client_json(home)
        if known is None or not known.get("token_file"):
            raise Unavailable(f"no Suanli service is known in {home}; start one with `suanli up`")
        return cls(str(known["api"]), _token_in(Path(known["token_file"])), ca_file=known.get("ca_file"))

    # -- requests --------------------------------------------------------------------------------------------------

    def get(self, path: str, /, **query: Any) -> Json:
        """GET; query values that are None are left out. Raises the API's failure as a scheduler.errors class."""
        return self._json(self._ask("GET", _with_query(path, query), None, ANSWER_TIMEOUT_S))

    def get_bytes(self, path: str, /, **query: Any) -> bytes:
        """As `get`, for answers so large that whoever asked reads them in its own way."""
        answer = self._ask("GET", _with_query(path, query), None, ANSWER_TIMEOUT_S)
        if not 200 <= answer.status < 300:
            raise self._failure(answer)
        return answer.body

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """POST of a JSON object. Sent once: when the answer is lost, so is the knowledge of what was done."""
        return self._json(self._ask("POST", path, json.dumps(body).encode(), ANSWER_TIMEOUT_S))

    def delete(self, path: str) -> Json:
        """DELETE, sent once like `post`."""
        return self._json(self._ask("DELETE", path, None, ANSWER_TIMEOUT_S))

    def wait_for_job(self, job_id: str, *, timeout_s: float | None = None, patience_s: float = 60.0) -> Json:
        """The job's view when it has ended, or as it is after `timeout_s` (None: no limit).

        A service that is away (restarting, overloaded) is asked again for up to `patience_s`.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        silent_since_s: float | None = None
        view: Json | None = None
        while True:
            left_s = POLL_SLICE_S if until_s is None else max(0.0, min(POLL_SLICE_S, until_s - time.monotonic()))
            path = _with_query(f"/v1/jobs/{quote(job_id, safe='')}/wait", {"timeout_s": f"{left_s:.3f}"})
            try:
                view = self._json(self._ask("GET", path, None, left_s + ANSWER_TIMEOUT_S))
            except Unavailable:
                now_s = time.monotonic()
                silent_since_s = now_s if silent_since_s is None else silent_since_s
                if now_s - silent_since_s > patience_s or (until_s is not None and now_s > until_s):
                    raise
                time.sleep(0.5)
                continue
            silent_since_s = None
            job_id = view["id"]
            if view["state"] in ENDED_STATES or (until_s is not None and time.monotonic() >= until_s):
                return view

    def read_log(
        self, job_id: str, *, worker: int = 0, attempt: int | None = None, stream: str = "stdout", offset: int = 0
    ) -> LogPart:
        """One chunk of a worker's log from `offset`. Raises NotFound where there is no such log (yet)."""
        path = _with_query(
            f"/v1/jobs/{quote(job_id, safe='')}/log",
            {"worker": worker, "attempt": attempt, "stream": stream, "offset": offset, "limit": LOG_CHUNK_BYTES},
        )
        answer = self._ask("GET", path, None, ANSWER_TIMEOUT_S)
        if answer.status != 200:
            raise self._failure(answer)
        try:
            told = answer.headers
            skipped = int(told.get("x-skipped", "0"))  # an older service does not say
            return LogPart(answer.body, int(told["x-next-offset"]), told["x-end"] == "1", skipped)
        except (KeyError, ValueError):
            raise self._stranger(answer) from None

    def stream_log(
        self,
        job_id: str,
        *,
        worker: int = 0,
        attempt: int | None = None,
        stream: str = "stdout",
        follow: bool = False,
        poll_s: float = LOG_POLL_S,
    ) -> Iterator[bytes]:
        """The log in chunks, from its start; with `follow` until the run is over, else up to what is there now."""
        offset = 0
        while True:
            part = self.read_log(job_id, worker=worker, attempt=attempt, stream=stream, offset=offset)
            offset = part.next_offset
            if part.data:
                yield part.data
            elif part.end or not follow:
                return
            else:
                time.sleep(poll_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- the connection --------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> _Answer:
        reused = self._connection is not None and time.monotonic() - self._last_used_s < REUSE_WITHIN_S
        if not reused:
            self.close()
        try:
            return self._ask_once(method, path, body, timeout_s)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            self.close()
            if method != "GET" or not reused:
                raise self._silence(method, error) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._silence(method, error) from error
        try:
            return self._ask_once(method, path, body, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._silence(method, error) from error

    def _ask_once(self, method: str, path: str, body: bytes | None, timeout_s: float) -> _Answer:
        if self._connection is None:
            self._connection = self._connect()
        if self._connection.sock is None:
            self._connection.timeout = CONNECT_TIMEOUT_S
            self._connection.connect()
        self._connection.sock.settimeout(timeout_s)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, self._url.path + path, body, headers)
        response = self._connection.getresponse()
        answer = _Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        other_version.met(self.api, answer.headers.get(other_version.VERSION_HEADER))
        self._last_used_s = time.monotonic()
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        import ssl

        try:
            trust = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise Unavailable(f"the certificate authority file {self._ca_file} cannot be used: {error}") from error
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=trust)

    def _silence(self, method: str, error: Exception) -> Unavailable:
        if isinstance(error, ConnectionRefusedError):
            return Unavailable(f"no Suanli service answers at {self.api}; start it with `suanli up`")
        what = "did not answer in time" if isinstance(error, TimeoutError) else f"could not be asked: {error}"
        if method == "GET":
            return Unavailable(f"the service at {self.api} {what}; try again, or look at `suanli doctor`")
        return Unavailable(
            f"the service at {self.api} {what}; it may or may not have done what was asked: look at `suanli queue` "
            "before you try again"
        )

    # -- answers ---------------------------------------------------------------------------------------------------

    def _json(self, answer: _Answer) -> Json:
        if not 200 <= answer.status < 300:
            raise self._failure(answer)
        try:
            document = json.loads(answer.body)
        except ValueError:
            raise self._stranger(answer) from None
        if not isinstance(document, dict):
            raise self._stranger(answer)
        return document

    def _failure(self, answer: _Answer) -> SuanliError:
        try:
            said = json.loads(answer.body)["error"]
            return from_wire(str(said["type"]), answer.status, str(said["message"]), said["field"])
        except (ValueError, KeyError, TypeError):
            return self._stranger(answer)

    def _stranger(self, answer: _Answer) -> Unavailable:
        return Unavailable(
            f"{self.api} answers (HTTP {answer.status}), but not as Suanli does; is the address right, and is a "
            "proxy in between?"
        )


def job_path(job_id: str, verb: str = "") -> str:
    """`/v1/jobs/7/why`, with whatever was typed as the id kept inside its part of the path."""
    return f"/v1/jobs/{quote(job_id, safe='')}" + (f"/{verb}" if verb else "")


def node_path(node: str, verb: str = "") -> str:
    path = f"/v1/nodes/{quote(node, safe='')}"
    return f"{path}/{verb}" if verb else path


def _with_query(path: str, query: Mapping[str, Any]) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _checked_url(api: str) -> SplitResult:
    try:
        url = urlsplit(api)
        port_is_fine = url.port is None or url.port > 0
    except ValueError:
        port_is_fine = False
    if not port_is_fine or url.scheme not in ("http", "https") or not url.hostname:
        raise BadInput(f"{api!r} is no address of an API; http://127.0.0.1:PORT or https://HOST:PORT is expected")
    if url.scheme == "http" and url.hostname not in LOOPBACK:
        raise BadInput(f"{api} would send the token in clear over the network; use https:// beyond this machine")
    return url


def _client_json(home: Path) -> Json | None:
    path = home / "client.json"
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unavailable(f"{path} cannot be read ({error}); `suanli up` writes it anew") from error
    if not isinstance(known, dict) or not isinstance(known.get("api"), str):
        raise Unavailable(f"{path} does not say where the API is; `suanli up` writes it anew")
    return known


def _token_in(path: Path) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Unauthenticated(f"the token in {path} can be read by others ({mode:04o}); run: chmod 600 {path}")
            token = file.read(4096).strip()
    except FileNotFoundError:
        raise NotFound(f"there is no token file {path}; `suanli up` or `suanli token create` makes tokens") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unauthenticated(f"the token file {path} cannot be read: {error}") from error
    if not token or any(not "!" <= letter <= "~" for letter in token):
        raise Unauthenticated(f"{path} does not hold a token: one line of printable ASCII is expected")
    return token
