"""What a guarded Prometheus wants besides the query: a token, headers, whom to trust, a client certificate.

Files are read again when they change, since tokens and certificates are renewed while Penstock runs. No text
that is made here has a secret in it: files and headers are named, and what a server repeats is taken out.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")
_TOKEN = re.compile(r"[!-~]+")
_SHORTEST_SECRET = 6
"""What is shorter is not looked for in the words of a server: it would be found in ordinary ones."""


class AccessError(Exception):
    """An option, or the file that it names, is of no use; the text says why, without any secret."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(text)
        self.option = f"--prometheus-{option}"


@dataclass(frozen=True, slots=True)
class Access:
    """What goes with each question, and whom to trust: by default nothing, and the public authorities."""

    token_file: Path | None = None
    """Holds a bearer token."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    """The authorities to trust instead of the public ones."""
    cert_file: Path | None = None
    """The client's certificate; with its key, if there is no key_file."""
    key_file: Path | None = None

    def check(self, url: str) -> None:
        """See before anything starts that `url` can be asked in this way; AccessError."""
        secure = _is_secure(url)
        self._one_credential(url)
        if self.key_file and not self.cert_file:
            raise AccessError("key-file", "is of no use without --prometheus-cert-file")
        for option, file in (("ca-file", self.ca_file), ("cert-file", self.cert_file)):
            if file and not secure:
                raise AccessError(option, "is of no use with an address that is not https://")
        self.sent_headers()
        if secure:
            self.tls()

    def _one_credential(self, url: str) -> None:
        """Refuse what would overwrite each other: a request has one Authorization."""
        in_header = "authorization" in map(str.lower, self.headers)
        in_address = urlsplit(url).username is not None
        if self.token_file and (in_header or in_address):
            other = "the header Authorization" if in_header else "the user in the address"
            raise AccessError("token-file", f"and {other} are two credentials: give one")
        if in_header and in_address:
            raise AccessError("header", "Authorization and the user in the address are two: give one")

    def sent_headers(self) -> dict[str, str]:
        """Return the headers to send now; AccessError when the token cannot be read."""
        if self.token_file is None:
            return dict(self.headers)
        return {**self.headers, "Authorization": f"Bearer {_token(self.token_file)}"}

    def tls(self) -> ssl.SSLContext:
        """Return what connections are made with, made anew when a file has changed; AccessError."""
        return _context(
            self.ca_file and _seen("ca-file", "CA file", self.ca_file),
            self.cert_file and _seen("cert-file", "certificate file", self.cert_file),
            self.key_file and _seen("key-file", "key file", self.key_file),
        )

    def told(self, url: str) -> str:
        """Return in words what is sent, to follow "asked": which credentials, never their values."""
        sent = [f"the token from {self.token_file}"] if self.token_file else []
        if urlsplit(url).username is not None:
            sent.append("the user and password of its address")
        if self.cert_file:
            sent.append(f"the certificate from {self.cert_file}")
        sent += [f"the header {name}" for name in self.headers]
        return f"with {', '.join(sent)}" if sent else "without credentials"


def read_headers(lines: Iterable[str]) -> dict[str, str]:
    """Read NAME=VALUE of several headers; AccessError, which repeats no value."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.strip().partition("=")
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise AccessError("header", "must be NAME=VALUE in plain ASCII, such as X-Scope-OrgID=team")
        if name.lower() in map(str.lower, found):
            raise AccessError("header", f"{name} is given twice")
        found[name] = value
    return found


def without_password(url: str) -> str:
    """Return an address as it may be shown."""
    return re.sub("//[^/]*@", "//", url)


def without_secrets(text: str, url: str, sent: Iterable[str]) -> str:
    """Return what a server said without the password of its address and the headers that were `sent`."""
    secrets = {unquote(urlsplit(url).password or ""), *(word for value in sent for word in value.split())}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "...")
    return text


def _is_secure(url: str) -> bool:
    """Tell whether an address is https://; AccessError when it is none, without its password."""
    try:
        parts = urlsplit(url)
        unquote(parts.netloc.rpartition("@")[0]).encode("latin-1")  # as it is sent
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or "@" in parts.path:
        raise AccessError(
            "url", "must be http(s)://HOST[:PORT][/PATH]; a password's special characters as %XX, such as %40"
        )
    return parts.scheme == "https"


def _token(path: Path) -> str:
    token = _read("token-file", "token file", path).decode("latin-1").strip()
    if not _TOKEN.fullmatch(token):
        wrong = "holds no token: it must be one word in plain ASCII" if token else "is empty"
        raise AccessError("token-file", f"the token file {path} {wrong}")
    return token


def _read(option: str, what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AccessError(option, f"the {what} {path} cannot be read: {error.strerror}") from error


class _Seen(NamedTuple):
    """A file as it was when it was looked at: when it changes, something of this does."""

    option: str
    what: str
    path: Path
    inode: int
    changed: int
    modified: int


def _seen(option: str, what: str, path: Path) -> _Seen:
    try:
        now = path.stat()
    except OSError as error:
        raise AccessError(option, f"the {what} {path} cannot be read: {error.strerror}") from error
    return _Seen(option, what, path, now.st_ino, now.st_ctime_ns, now.st_mtime_ns)


@lru_cache(maxsize=4)
def _context(ca: _Seen | None, cert: _Seen | None, key: _Seen | None) -> ssl.SSLContext:
    """Make it once per state of the files: to read the public authorities takes longer than a query."""
    for file in (ca, cert, key):
        if file:
            _read(file.option, file.what, file.path)
    try:
        context = ssl.create_default_context(cafile=ca.path if ca else DEFAULT_CA_BUNDLE_PATH)
    except ssl.SSLError as error:
        if ca is None:
            raise
        raise AccessError("ca-file", f"the CA file {ca.path} holds no certificate in PEM") from error
    if cert:
        _load(context, cert.path, key.path if key else cert.path)
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password="")  # nobody is there to be asked for one
    except (ssl.SSLError, ValueError) as error:
        raise AccessError(
            "cert-file",
            f"the certificate from {cert} and the key from {key} cannot be used: they must be PEM, without a"
            " passphrase, and belong together",
        ) from error
