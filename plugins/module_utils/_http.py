# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""HTTP on one requests.Session: connection options in, answers or typed errors out."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
import traceback
import typing as t
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from ansible_collections.gpufleet.triton.plugins.module_utils._problem import ProblemError

try:
    import requests
    import requests.adapters
    import requests.exceptions
    import requests.utils
    import urllib3.exceptions

    REQUESTS_IMPORT_ERROR: str | None = None
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()

_HEADER_NAME = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
_HEADER_VALUE = re.compile(r"^[\x20-\x7e\x80-\xff]*\Z")
# Bytes a second, on average over as many timeouts, below which a connection is as good as broken.
_SLOWEST = 1024
_SLOW_TIMEOUTS = 4


class HttpError(ProblemError):
    """No usable answer."""

    #: Whether waiting may cure it: a server that starts refuses connections, a wrong certificate stays wrong.
    transient = True


class HttpOptionsError(HttpError):
    """An option that no request can be made with."""

    transient = False


class HttpConnectError(HttpError):
    """Nothing listens there, or the host is not reachable."""


class HttpLostError(HttpError):
    """The connection was made, and broke before the answer came."""


class HttpTimeoutError(HttpError):
    """No answer in time."""


class HttpTlsError(HttpError):
    """TLS could not be agreed upon, or the certificate does not verify."""

    transient = False


class HttpProtocolError(HttpError):
    """What answers does not speak HTTP."""


@dataclass(frozen=True)
class Options:
    """How to reach a server."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    admin_header: str = ""
    admin_key: str = ""
    validate_certs: bool = True
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    timeout: float = 10.0
    pool: int = 4
    #: Whether the proxies of the environment are used: for what is out on the network, never for a host's own server.
    proxies: bool = False

    def checked(self) -> Options:
        """Return these options, or raise: what requests would say itself may show a secret."""
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            # What Python says itself has the port in it, which may be a part of a password.
            why = "its port is no number from 0 to 65535, or its IPv6 address is not in order"
            raise HttpOptionsError(f"Cannot use url {shown_url(self.url)!r}", why, "correct the option url") from None
        if not usable:
            raise HttpOptionsError(
                f"Cannot use url {shown_url(self.url)!r}",
                "wanted http://HOST:PORT or https://HOST:PORT",
                "correct the option url, for example http://127.0.0.1:8000",
            )
        # Behind a slash that should have been quoted, a password is taken for a path.
        if "@" in parts.netloc + parts.path:
            raise HttpOptionsError(
                f"Cannot use url {shown_url(self.url)!r} with a user or password in it",
                "a URL is shown in messages and logs",
                "send an Authorization header with the option headers",
            )
        if parts.query or parts.fragment:
            raise HttpOptionsError(f"Cannot use url {self.url!r}", "it has a query or a fragment", "give the server's address only")
        for name, value in self.all_headers().items():
            if not _HEADER_NAME.match(name):
                raise HttpOptionsError(f"Cannot send a header named {name!r}", "it is no valid header name", "correct it")
            if not _HEADER_VALUE.match(value) or value != value.strip():
                raise HttpOptionsError(
                    f"Cannot send the header {name}",
                    "its value has line breaks, control characters, letters outside of Latin-1 or spaces around it",
                    "correct the value (it is not shown, because it may be a secret)",
                )
        if self.client_key and not self.client_cert:
            raise HttpOptionsError("Cannot use client_key alone", "a key needs its certificate", "set client_cert as well")
        return self

    def all_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.admin_key:
            headers[self.admin_header] = self.admin_key
        return headers


class Stream:
    """An answer whose body is read piece by piece, as it came: nothing is unpacked on the way."""

    def __init__(self, answer: requests.Response, mapped: t.Callable[[], t.ContextManager[None]], what: str, timeout: float) -> None:
        self.status: int = answer.status_code
        self.headers: t.Mapping[str, str] = answer.headers
        self._raw = answer.raw
        self._mapped = mapped
        self._what = what
        self._patience = _SLOW_TIMEOUTS * timeout

    def chunks(self, size: int = 1 << 14) -> t.Iterator[bytes]:
        """Yield the body; HttpLostError when it ends before what Content-Length promised, or comes by the drop."""
        length = self.headers.get("Content-Length", "")
        came = recent = 0
        waited = 0.0
        while True:
            asked = time.monotonic()
            with self._mapped():
                piece = self._read(size)
                if not piece and length.isdigit() and came < int(length):
                    raise requests.exceptions.ChunkedEncodingError(f"{came} of {length} bytes came")
            if not piece:
                return
            came += len(piece)
            recent += len(piece)
            # Without the time that whoever takes the pieces needs for them.
            waited += time.monotonic() - asked
            if waited >= self._patience:
                if recent < _SLOWEST * waited:
                    why = f"{recent} bytes came in {waited:.1f} s, wanted at least {_SLOWEST} a second"
                    raise HttpLostError(f"{self._what}: the connection is too slow to go on with", why, "")
                recent, waited = 0, 0.0
            yield piece

    def _read(self, size: int) -> bytes:
        """What is there, up to that size. A plain read waits until there is as much, however slowly it comes."""
        if hasattr(self._raw, "read1"):
            return t.cast(bytes, self._raw.read1(size, decode_content=False))
        # Before 2.1, urllib3 has that only for itself.
        with self._raw._error_catcher():
            return t.cast(bytes, self._raw._fp.read1(size))


@dataclass(frozen=True)
class Response:
    """An answer, whatever its status."""

    method: str
    url: str
    status: int
    body: bytes = b""
    headers: t.Mapping[str, str] = field(default_factory=dict)

    def json(self) -> t.Any:
        """Return the parsed body; ValueError when it is not JSON."""
        return json.loads(self.body.decode("utf-8"))

    def text(self, limit: int = 400) -> str:
        text = self.body[: 4 * limit].decode("utf-8", "replace").strip()
        return text if len(text) <= limit else text[:limit] + "..."

    def error(self) -> str:
        """Return the server's own error text: the `error` of a JSON body, otherwise an empty string."""
        try:
            data = self.json()
        except ValueError:
            return ""
        found = data.get("error") if isinstance(data, dict) else None
        return found.strip() if isinstance(found, str) else ""


class Transport:
    """One session with keep-alive, shared by all threads of a call (its pool hands out one connection per thread)."""

    def __init__(self, options: Options) -> None:
        self.options = options.checked()
        self.base = self.options.url.rstrip("/")
        self._session = requests.Session()
        # Neither a proxy, a netrc nor a CA bundle from the environment may get between a host and its own server.
        self._session.trust_env = False
        # Not followed here, and so not read either: requests would take in the body and stumble over a broken Location.
        self._session.get_redirect_target = lambda _answer: None
        adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=max(1, options.pool), max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._session.headers["User-Agent"] = "gpufleet.triton"
        self._session.headers.update(options.all_headers())
        self._session.verify = (options.ca_path or True) if options.validate_certs else False
        if options.proxies:
            self._session.proxies.update(requests.utils.get_environ_proxies(self.base, no_proxy=None))
        if options.client_cert:
            self._session.cert = (options.client_cert, options.client_key) if options.client_key else options.client_cert

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        # An idle connection that stays open uses up a stopping server's whole exit timeout.
        self._session.close()

    def reset(self) -> None:
        """Drop idle connections: one of them may be served by a thread of the server that is stuck."""
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        timeout: float | None = None,
        headers: t.Mapping[str, str] | None = None,
    ) -> Response:
        """Send a body as JSON, or as it is if it is bytes; `headers` are those of this request alone."""
        url = self.base + path
        limit = max(0.1, self.options.timeout if timeout is None else timeout)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode("utf-8")
        sent = {} if data is None else {"Content-Type": "application/json"}
        sent.update(headers or {})
        with _mapped(method, url, self.options, limit):
            answer = self._session.request(
                method,
                url,
                data=data,
                headers=sent,
                timeout=(min(limit, self.options.timeout), limit),
                allow_redirects=False,
            )
            length = answer.headers.get("Content-Length", "")
            # Requests before 2.32 takes half an answer for a whole one.
            if length.isdigit() and answer.raw.tell() < int(length):
                raise requests.exceptions.ChunkedEncodingError(f"{answer.raw.tell()} of {length} bytes came")
            return Response(method, url, answer.status_code, answer.content, answer.headers)

    @contextlib.contextmanager
    def stream(self, target: str, headers: t.Mapping[str, str] | None = None) -> t.Iterator[Stream]:
        """GET a path (with its query, which no error shows) and give its body as it comes.

        The option timeout limits each silence of the server, not the whole.
        """
        limit = max(0.1, self.options.timeout)
        path, _mark, query = target.partition("?")
        url = shown_url(self.base + path)
        # A path that is not shown may come along in what a library says.
        secrets = [query, path if url != self.base + path else "", *self.options.all_headers().values(), *(headers or {}).values()]
        mapped = partial(_hidden, "GET", url, self.options, limit, secrets)
        with mapped():
            answer = self._session.get(
                self.base + target,
                headers={"Accept-Encoding": "identity", **(headers or {})},
                timeout=(limit, limit),
                allow_redirects=False,
                stream=True,
            )
        try:
            yield Stream(answer, mapped, f"GET {url}", limit)
        finally:
            answer.close()


@contextlib.contextmanager
def _mapped(method: str, url: str, options: Options, limit: float) -> t.Iterator[None]:
    """Turn what requests and urllib3 raise into our errors."""
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise _tls_error(method, url, error, options) from error
    except requests.exceptions.ConnectTimeout as error:
        raise HttpTimeoutError(
            f"{method} {url}: no connection within {min(limit, options.timeout):g} s",
            "the host does not answer, or a firewall drops the packets",
            "check the address, the port and the firewall",
        ) from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise HttpTimeoutError(
            f"{method} {url}: no answer within {limit:g} s",
            "the server is busy or hangs",
            "look at the server's log; raise the option timeout if it is only slow",
        ) from error
    except requests.exceptions.ConnectionError as error:
        raise _connection_error(method, url, error) from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError) as error:
        raise HttpLostError(f"{method} {url}: the connection broke in the middle of the answer", _root(error), "") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise HttpProtocolError(f"{method} {url}: no valid answer", _root(error), "check what listens on that port") from error
    except OSError as error:
        # requests raises a bare OSError for a CA bundle or a client certificate that is not there.
        raise HttpTlsError(f"{method} {url}: cannot use the TLS files", str(error), "check ca_path, client_cert and client_key") from error


@contextlib.contextmanager
def _hidden(method: str, url: str, options: Options, limit: float, secrets: t.Sequence[str]) -> t.Iterator[None]:
    """Like _mapped, without the secrets: libraries put a URL with its query into their texts, and so into tracebacks."""
    try:
        with _mapped(method, url, options, limit):
            yield
    except HttpError as error:
        for secret in secrets:
            if secret:
                error.why = error.why.replace(secret, "(hidden)")
        raise error from None


def shown_url(url: str) -> str:
    """A URL without what may be a secret in it: user, password, query and fragment.

    Where a password has a letter that should have been quoted, nobody can tell where it ends. Then nothing is shown.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        clear = parts.port != 0 and "@" not in host + parts.path + parts.query + parts.fragment
    except ValueError:
        clear = False
    if clear:
        return parts._replace(netloc=host, query="", fragment="").geturl()
    known = re.match(r"https?:", url, re.IGNORECASE)
    return f"{known[0]}//(hidden)" if known else "(hidden)"


def _chain(error: BaseException | None) -> t.Iterator[BaseException]:
    """Walk through all that is wrapped in an exception of requests and urllib3."""
    seen: set[int] = set()
    todo: list[t.Any] = [error]
    while todo:
        item = todo.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        todo.extend([getattr(item, "reason", None), item.__cause__, item.__context__, *item.args])


def _root(error: BaseException) -> str:
    last = error
    for item in _chain(error):
        last = item
    return f"{type(last).__name__}: {last}"


def _connection_error(method: str, url: str, error: BaseException) -> HttpError:
    chain = list(_chain(error))
    names = {type(item).__name__ for item in chain}
    if any(isinstance(item, ConnectionRefusedError) for item in chain):
        return HttpConnectError(
            f"{method} {url}: connection refused",
            "nothing listens there: the server is down, still loads its start-up models, or uses another port",
            "start the server, look at its log, or correct the option url",
        )
    if any(isinstance(item, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)) for item in chain):
        return HttpLostError(
            f"{method} {url}: the server closed the connection without an answer",
            "it stops or died, or it expects TLS on this port",
            "look at the server's log; use https:// if the port speaks TLS",
        )
    if any(isinstance(item, http.client.HTTPException) for item in chain):
        return HttpProtocolError(
            f"{method} {url}: what answers does not speak HTTP",
            next(f"{type(item).__name__}: {item}" for item in chain if isinstance(item, http.client.HTTPException))[:200],
            "check what listens on that port (Triton: 8000 is HTTP, 8001 is gRPC)",
        )
    if "NameResolutionError" in names or "gaierror" in names:
        return HttpConnectError(f"{method} {url}: the host name does not resolve", _root(error), "correct the option url")
    return HttpConnectError(f"{method} {url}: cannot connect", _root(error), "check the address and the network")


def _tls_error(method: str, url: str, error: BaseException, options: Options) -> HttpTlsError:
    text = str(error)
    why = next((str(item) for item in _chain(error) if type(item).__name__.startswith("SSL") and item is not error), text)
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        trusted = options.ca_path or "the system's certificate authorities"
        return HttpTlsError(
            f"{method} {url}: the server's certificate does not verify against {trusted}",
            why,
            "set ca_path to the authority that signed it, use the name that is in the certificate, or set validate_certs to false",
        )
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text or "UNKNOWN_PROTOCOL" in text:
        return HttpTlsError(
            f"{method} {url}: the port does not speak TLS",
            why,
            "use http://: Triton itself has no TLS on HTTP, a proxy in front of it may",
        )
    return HttpTlsError(f"{method} {url}: TLS failed", why, "check the certificates and the TLS versions of both sides")
