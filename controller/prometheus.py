"""Prometheus as a port: cumulative counters at aligned instants, for all rollouts in one range query.

The only importer of `prometheus_api_client`, whose session this module uses with what the client's own calls
lack: a deadline and a bound for the whole answer, no blocking retries (the loop asks again soon enough),
errors reported with status 200, instants that are in Prometheus' future, and warnings, which say that an
answer may be partial. A query is the template's own text: nothing is ever put into it. Native histograms are
read as classic ones (`controller.native`).

What a guarded Prometheus wants besides the query is in `controller.prometheus_access`. A redirect, which
would carry it elsewhere, is never followed.

Every failure is an UnavailableError in one short sentence, never with the answer's body or a secret.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import requests
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as ReadTimeoutError
from urllib3.util.retry import Retry

from controller.answers import Splitter
from controller.matrix import Matrix
from controller.native import classic_series
from controller.ports import Reading, Series, UnavailableError
from controller.prometheus_access import Access, AccessError, without_password, without_secrets

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

TIMEOUT_SECONDS = 5.0
CONCURRENCY = 4
MAX_AHEAD = 5.0
"""Seconds by which our clock may be ahead of Prometheus', which tells it in whole seconds."""
MAX_BYTES = 256 * 1024 * 1024
QUERIES = 256
"""Of how many queries the labels of the last answer are remembered."""
_PARSERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/api/v1/format_query", {}),
    ("/api/v1/query", {"time": "0"}),
)
"""Where a query is parsed; the first reads no data, and not every Prometheus has it."""
_CHUNK = 64 * 1024
_SHOWN = 200
"""How much of Prometheus' own words goes into a message."""
_REFUSALS = {requests.codes.unauthorized, requests.codes.forbidden}


class PrometheusMetrics:
    """`controller.ports.Metrics` on the HTTP API of a Prometheus (or Thanos, Mimir, ...) at `url`.

    The API is looked for below the path of `url`, if it has one.
    """

    def __init__(
        self,
        url: str,
        *,
        access: Access | None = None,
        timeout: float = TIMEOUT_SECONDS,
        concurrency: int = CONCURRENCY,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.url = url.strip().rstrip("/")
        self._access = access or Access()
        self.name = f"Prometheus at {without_password(self.url)}"
        """To be shown."""
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._splitter = lru_cache(QUERIES)(lambda _query: Splitter())
        self._threads = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="prometheus")

    async def close(self) -> None:
        """Wait for the queries under way (they end in time) and let the threads go."""
        await asyncio.to_thread(self._threads.shutdown)

    async def read(self, query: str, *, start: int, end: int, step: int) -> Reading:
        """Evaluate `query` at start, start+step .. end (unix seconds, inclusive); UnavailableError."""
        asked = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
        asked["timeout"] = f"{self._timeout:g}s"

        def work(client: _Client) -> Reading:
            body = client.fetch("/api/v1/query_range", asked)
            _refuse_the_future(client.date, end)
            return reading_of(body, self._splitter(query))

        return await self._call(work)

    async def ready(self) -> None:
        """Return when Prometheus answers queries; else UnavailableError.

        /-/ready says less: Mimir and many proxies have no such page, others show it to whoever may not query.
        """
        await self._call(lambda client: _success(client.fetch("/api/v1/query", {"query": "vector(1)"})))

    async def objection(self, query: str) -> str:
        """Return why Prometheus cannot parse a query, in its words; empty when it can. UnavailableError."""

        def work(client: _Client) -> str:
            for path, asked in _PARSERS:
                try:
                    _success(client.fetch(path, {"query": query, **asked}))
                except BadAnswerError as error:
                    if client.said and client.status == requests.codes.bad_request:
                        return f"{self.name} {error}"
                    if path != _PARSERS[-1][0]:  # what others say of a path that they lack is no objection
                        continue
                    if client.status != requests.codes.unprocessable:  # it was parsed, but not computed
                        raise
                break
            return ""

        return await self._call(work)

    async def _call(self, work: Callable[[_Client], T]) -> T:
        def call() -> T:
            try:
                with _Client(self.url, self._access, self._timeout, self._max_bytes) as client:
                    return work(client)
            except AccessError as error:
                raise UnavailableError(f"{self.name} cannot be asked: {error}") from error
            except BadAnswerError as error:
                raise UnavailableError(f"{self.name} {error}") from error
            except (requests.Timeout, ReadTimeoutError) as error:
                raise UnavailableError(f"{self.name} {_late(self._timeout)}") from error
            except (requests.RequestException, HTTPError, OSError) as error:
                raise UnavailableError(f"{self.name} cannot be reached ({_cause(error)})") from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class BadAnswerError(Exception):
    """What is wrong with an answer, to follow "Prometheus at URL"."""


class _TlsAdapter(HTTPAdapter):
    """Connections by one context; requests itself would read the authorities again for each of them."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make connections by the context."""
        super().init_poolmanager(*args, **options, ssl_context=self._context)

    def cert_verify(self, *_: Any) -> None:
        """Leave to the context whom to trust: the public authorities would be added to it here."""


class _Client(PrometheusConnect):  # type: ignore[misc] # the package has no types
    """The client with a deadline and a bound for each answer. One per call: sessions are not thread-safe."""

    def __init__(self, url: str, access: Access, timeout: float, max_bytes: int) -> None:
        super().__init__(url, retry=Retry(0, redirect=False, read=False), timeout=timeout)
        self._access = access
        self._max_bytes = max_bytes
        self.date, self.status, self.said = "", 0, ""
        """Of the last answer: when it was given, by the server's clock, its status, and the error it told."""
        self._session.trust_env = False  # no proxy between Penstock and its Prometheus, no .netrc
        self._session.headers.update(access.sent_headers())
        if url.lower().startswith("https:"):
            adapter = _TlsAdapter(access.tls())
            for prefix in (url, "https://"):  # requests may write the address in another way
                self._session.mount(prefix, adapter)

    def fetch(self, path: str, params: Mapping[str, str]) -> bytes:
        """Return the body of a good answer; BadAnswerError, requests' and urllib3's errors."""
        with self._session.get(
            self.url + path, params=params, timeout=self._timeout, stream=True, allow_redirects=False
        ) as response:
            body = self._body(response, time.monotonic() + self._timeout)
            self.date, self.status, self.said = response.headers.get("Date", ""), response.status_code, ""
        if response.status_code != requests.codes.ok:
            raise BadAnswerError(self._refusal(response, body))
        return body

    def _refusal(self, response: requests.Response, body: bytes) -> str:
        """Return what an answer says that is none; with what was sent, where that may be why."""
        sent = [response.request.headers.get(name, "") for name in ("Authorization", *self._access.headers)]
        reason = without_secrets(str(response.reason), self.url, sent)[:_SHOWN]
        self.said = _told(without_secrets(body.decode(errors="replace"), self.url, sent))
        redirect = ", and redirects are not followed" if response.is_redirect else ""
        refused = response.is_redirect or response.status_code in _REFUSALS
        how = f"; asked {self._access.told(self.url)}" if refused else ""
        return f"answers {response.status_code} {reason}{self.said}{redirect}{how}"

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        body = bytearray()
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > self._max_bytes:
                raise BadAnswerError(f"answers with more than {self._max_bytes} bytes")
            if time.monotonic() > deadline:
                raise BadAnswerError(_late(self._timeout))
        return bytes(body)


def _refuse_the_future(date: str, end: int) -> None:
    """Refuse an answer about instants that are yet to come by the clock that stamps the samples.

    What is missing there is not silence. Taken for it, these intervals would be over when they begin: a clock
    that was wrong for a moment would make the controller blind for as long as it was ahead.
    """
    try:
        ahead = end - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return
    if ahead > MAX_AHEAD:
        raise BadAnswerError(f"has a clock that is {ahead:.0f} s or more behind ours: one of them is wrong")


def _late(timeout: float) -> str:
    return f"does not answer within {timeout:g} s"


def _is_error(what: object) -> bool:
    return isinstance(what, BaseException)


def _cause(error: BaseException) -> str:
    """Return the innermost reason: `Connection refused` rather than the four errors around it."""
    while inner := next(filter(_is_error, (getattr(error, "reason", None), *error.args)), None):
        error = inner
    if untrusted := getattr(error, "verify_message", ""):
        return f"its certificate is not trusted: {untrusted}"
    text = str(getattr(error, "strerror", None) or error)
    return (text.partition("): ")[2] or text)[:_SHOWN]  # urllib3 puts its connection object before the reason


def _told(body: bytes | str) -> str:
    """Return what Prometheus says about an error, shortened; nothing when it is not its JSON."""
    try:
        answer = orjson.loads(body)
    except ValueError:
        return ""
    said = answer.get("error") if isinstance(answer, dict) else None
    return f": {str(said)[:_SHOWN]}" if said else ""


def reading_of(body: bytes, splitter: Splitter | None = None) -> Reading:
    """Parse the answer to a range query (Prometheus HTTP API, "range vectors"); BadAnswerError.

    `splitter`: the one that split the query's last answer.
    """
    ordinary = (splitter or Splitter()).split(body)
    if ordinary is not None:
        return Reading(ordinary)
    answer = _success(body)
    try:
        data = answer["data"]
        if data["resultType"] != "matrix":
            raise BadAnswerError(f"answers with a {str(data['resultType'])[:_SHOWN]} instead of a matrix")
        return Reading(_series(data["result"]), tuple(str(each) for each in answer.get("warnings") or ()))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadAnswerError("answers with JSON that is not Prometheus'") from error


def _success(body: bytes) -> dict[str, Any]:
    """Return a good answer as JSON; BadAnswerError."""
    try:
        answer = orjson.loads(body)
    except ValueError as error:
        raise BadAnswerError("answers with something that is not JSON") from error
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise BadAnswerError(f"reports an error{_told(body)}")
    return answer


def _series(result: Any) -> Sequence[Series]:
    """Return all series: counters as arrays; with native histograms among them, one by one."""
    if any("histograms" in item for item in result):
        return tuple(series for item in result for series in _each(item))
    return Matrix.of_result(result)


def _each(item: Any) -> Iterator[Series]:
    """Yield the series of one item: counters, and the buckets of native histograms; it may have had both."""
    labels = {str(name): str(value) for name, value in item["metric"].items()}
    if item.get("histograms"):
        yield from classic_series(labels, item["histograms"])
    if not item.get("histograms") or "values" in item:
        yield Series(labels, tuple((round(at), float(value)) for at, value in item["values"]))
