"""domicile.toml, parsed once into a frozen object. Every mistake is reported at once, each with its remedy.

docs/configuration.md describes each setting; a test holds the two together. Relative paths are relative to the
file. Times carry their unit in their name (`…_s`).
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import ssl
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .names import RegionName, region_name

PORT_DEFAULT = 6432
CONFIGURATION_BYTES_MAX = 1_000_000
SSLMODES = ("disable", "require", "verify-full")


class Endpoint(NamedTuple):
    """Where something listens. Prints as `host:port`, an IPv6 address in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Mistake(NamedTuple):
    where: str  #: `[gateway] listen`, or the file's name
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n    {self.remedy}"


class ConfigurationError(Exception):
    """All that is wrong with a configuration. Its text is what a user reads."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        super().__init__(source, mistakes)
        self.source = source
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        return f"{self.source}: {count}\n" + "\n".join(f"  {m}" for m in self.mistakes)


@dataclass(frozen=True, slots=True)
class Postgres:
    """The region's own PostgreSQL, as the node reaches it."""

    host: str  #: a name, an address, or the folder of a Unix socket
    port: int
    database: str
    user: str  #: the role of the node's control connections
    password: str = field(repr=False)
    sslmode: str  #: one of SSLMODES
    sslrootcert: Path | None  #: for verify-full; None: the system's authorities

    @property
    def by_socket(self) -> bool:
        return self.host.startswith("/")

    def ssl_context(self) -> ssl.SSLContext | None:
        """What to wrap a connection in, or None for plain. Reads `sslrootcert`."""
        if self.sslmode == "disable" or self.by_socket:
            return None
        context = ssl.create_default_context(cafile=self.sslrootcert)
        if self.sslmode == "require":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Gateway:
    listen: Endpoint
    certificate: Path | None  #: with `key`: TLS for clients is on offer
    key: Path | None
    clients_max: int
    pool_size: int  #: server connections for each (region, role, database)
    query_wait_timeout_s: float  #: how long a client may wait for a server connection
    login_timeout_s: float  #: how long a client may take to log in
    connect_timeout_s: float  #: how long a connection to a region may take to be ready


@dataclass(frozen=True, slots=True)
class Guard:
    """The peer port. `certificate`, `key` and `authority` also prove this region to the other regions' guards and
    agents, and are the agent's own."""

    listen: Endpoint
    certificate: Path
    key: Path
    authority: Path
    connections_max: int  #: of each calling region
    statement_bytes_max: int
    functions: frozenset[str]  #: that statements from other regions may call beside those on the guard's list
    login_timeout_s: float


@dataclass(frozen=True, slots=True)
class Agent:
    listen: Endpoint


@dataclass(frozen=True, slots=True)
class Peer:
    """Another region, as this node reaches it."""

    guard: Endpoint
    agent: Endpoint | None


@dataclass(frozen=True, slots=True)
class Configuration:
    source: str  #: the file's path, for messages
    region: RegionName
    postgres: Postgres
    gateway: Gateway
    guard: Guard | None  #: None only where there is no other region
    agent: Agent | None
    regions: Mapping[RegionName, Peer]  #: the others
    redis_url: str | None = field(repr=False)


def load(path: str | Path, environment: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration in the file. Raises ConfigurationError with every mistake found."""
    path = Path(path)
    try:
        if path.stat().st_size > CONFIGURATION_BYTES_MAX:
            raise ConfigurationError(
                str(path), [Mistake(str(path), "is no configuration: over 1 MB", "name another file")]
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        remedy = "name the file (domicile up FILE), or write one as docs/install.md shows"
        raise ConfigurationError(str(path), [Mistake(str(path), "no such file", remedy)]) from None
    except (OSError, UnicodeDecodeError) as e:
        remedy = "make it a UTF-8 text file that this user may read"
        raise ConfigurationError(str(path), [Mistake(str(path), f"can't be read: {e}", remedy)]) from None
    return parse(text, folder=path.absolute().parent, source=str(path), environment=environment)


def parse(
    text: str,
    *,
    folder: Path,
    source: str = "domicile.toml",
    environment: Mapping[str, str] = os.environ,
) -> Configuration:
    """The configuration that the text describes; `folder` is what relative paths are relative to."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        mistake = Mistake(source, f"is not TOML: {e}", "mend the syntax; strings stand in quotes")
        raise ConfigurationError(source, [mistake]) from None
    mistakes: list[Mistake] = []
    top = _Table(document, "", folder, environment, mistakes)

    region = top.region("region")
    postgres = _postgres(top.table("postgres", required=True))
    gateway = _gateway(top.table("gateway"))
    guard_table = top.table("guard") if "guard" in document else None
    agent_table = top.table("agent") if "agent" in document else None
    regions_table = top.table("regions")
    redis_url = _redis(top.table("redis"))
    top.refuse_the_rest()

    guard = _guard(guard_table) if guard_table else None
    agent = Agent(agent_table.endpoint("listen")) if agent_table else None
    if agent_table:
        agent_table.refuse_the_rest()
    regions = _regions(regions_table, region)
    if regions and guard is None:
        top.mistake(
            "guard",
            "is missing, and [regions.…] names other regions",
            "add [guard] with listen, certificate, key and authority; `domicile certificates` makes the files",
        )
    if agent and guard is None:
        top.mistake("agent", "needs the certificates of [guard]", "add [guard], or leave [agent] out")
    _refuse_one_port_for_two(gateway, guard, agent, top)
    if mistakes:
        raise ConfigurationError(source, mistakes)
    return Configuration(source, region, postgres, gateway, guard, agent, regions, redis_url)


def _postgres(t: _Table) -> Postgres:
    host = t.text("host", "127.0.0.1")
    sslmode = t.choice("sslmode", SSLMODES, "disable" if _is_local(host) else "require")
    result = Postgres(
        host=host,
        port=t.integer("port", 5432, 1, 65535),
        database=t.text("database"),
        user=t.text("user", "domicile_node"),
        password=t.secret("password"),
        sslmode=sslmode,
        sslrootcert=t.optional_file("sslrootcert"),
    )
    t.refuse_the_rest()
    return result


def _gateway(t: _Table) -> Gateway:
    certificate = t.optional_file("certificate")
    key = t.optional_file("key", private=True)
    for given, name, other in ((certificate, "certificate", "key"), (key, "key", "certificate")):
        if given and not t.has(other):
            t.mistake(other, f"is missing beside {name}", f"give both, or leave {name} out for no TLS")
    result = Gateway(
        listen=t.endpoint("listen", Endpoint("127.0.0.1", PORT_DEFAULT)),
        certificate=certificate,
        key=key,
        clients_max=t.integer("clients_max", 10_000, 1, 1_000_000),
        pool_size=t.integer("pool_size", 20, 1, 10_000),
        query_wait_timeout_s=t.number("query_wait_timeout_s", 120.0, 0.001, 86_400),
        login_timeout_s=t.number("login_timeout_s", 15.0, 0.001, 3_600),
        connect_timeout_s=t.number("connect_timeout_s", 10.0, 0.001, 3_600),
    )
    t.refuse_the_rest()
    return result


def _guard(t: _Table) -> Guard:
    result = Guard(
        listen=t.endpoint("listen"),
        certificate=t.file("certificate"),
        key=t.file("key", private=True),
        authority=t.file("authority"),
        connections_max=t.integer("connections_max", 1_000, 1, 1_000_000),
        statement_bytes_max=t.integer("statement_bytes_max", 1_000_000, 1_000, 100_000_000),
        functions=t.names_of("functions"),
        login_timeout_s=t.number("login_timeout_s", 15.0, 0.001, 3_600),
    )
    t.refuse_the_rest()
    return result


def _regions(t: _Table, here: RegionName) -> dict[RegionName, Peer]:
    regions: dict[RegionName, Peer] = {}
    for name in t.names():
        peer = t.table(name)
        try:
            other = region_name(name)
        except ValueError as e:
            t.mistake(name, str(e), "rename the region")
            continue
        if other == here:
            t.mistake(name, "is this node's own region", "list only the other regions here")
            continue
        guard = peer.endpoint("guard")
        regions[other] = Peer(guard, peer.endpoint("agent") if peer.has("agent") else None)
        peer.refuse_the_rest()
    return regions


def _redis(t: _Table) -> str | None:
    url = t.text("url", "")
    if url and not url.startswith(("redis://", "rediss://", "unix://")):
        t.mistake("url", f"is {url.partition('://')[0]!r}…", "write redis://host:port/0, rediss:// for TLS")
    t.refuse_the_rest()
    return url or None


def _refuse_one_port_for_two(gateway: Gateway, guard: Guard | None, agent: Agent | None, top: _Table) -> None:
    taken: dict[Endpoint, str] = {}
    for name, part in (("gateway", gateway), ("guard", guard), ("agent", agent)):
        if part is None or part.listen.port == 0:
            continue
        if part.listen in taken:
            top.mistake(
                f"[{name}] listen",
                f"{part.listen} is already [{taken[part.listen]}] listen",
                "give each its own port",
            )
        taken.setdefault(part.listen, name)


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Table:
    """A table of the document: gives typed values, notes a mistake for each that is missing or wrong and then gives
    a stand-in, so that all mistakes are found in one go."""

    def __init__(
        self,
        values: Mapping[str, Any],
        path: str,
        folder: Path,
        environment: Mapping[str, str],
        mistakes: list[Mistake],
    ) -> None:
        self._values = values
        self._path = path
        self._folder = folder
        self._environment = environment
        self._mistakes = mistakes
        self._known: set[str] = set()

    def mistake(self, name: str, what: str, remedy: str) -> None:
        where = f"[{self._path}] {name}" if self._path else name
        self._mistakes.append(Mistake(where, what, remedy))

    def has(self, name: str) -> bool:
        return name in self._values

    def names(self) -> Sequence[str]:
        return list(self._values)

    def table(self, name: str, *, required: bool = False) -> _Table:
        self._known.add(name)
        path = f"{self._path}.{name}" if self._path else name
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            self.mistake(name, "is not a table", f"write [{path}] on a line of its own, its settings below")
            value = {}
        elif required and name not in self._values:
            self.mistake(name, "is missing", f"add a table [{path}]; docs/configuration.md lists its settings")
            return _Table({}, path, self._folder, self._environment, [])  # its own mistakes would be noise
        return _Table(value, path, self._folder, self._environment, self._mistakes)

    def refuse_the_rest(self) -> None:
        for name in self._values:
            if name not in self._known:
                near = difflib.get_close_matches(name, self._known, 1)
                remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(self._known))}"
                self.mistake(name, "is not a setting", remedy)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default, "")
        if not isinstance(value, str) or "\0" in value:
            self.mistake(name, "is not a string", f'write {name} = "…"')
            return ""
        if not value and default is None and name in self._values:
            self.mistake(name, "is empty", f'write {name} = "…"')
        return value

    def region(self, name: str) -> RegionName:
        text = self.text(name)
        if text:
            try:
                return region_name(text)
            except ValueError as e:
                self.mistake(name, str(e), 'name it as domicile.create_region did, such as "us"')
        return RegionName("")

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        value = self.text(name, default)
        if value and value not in choices:
            self.mistake(name, f"is {value!r}", f"one of {', '.join(choices)}")
        return value

    def names_of(self, name: str) -> frozenset[str]:
        value = self._get(name, (), ())
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
            self.mistake(name, "is not a list of names", f'write {name} = ["similarity", …]')
            return frozenset()
        return frozenset(value)

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        value = self._get(name, default, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.mistake(name, f"is {value!r}", f"a whole number from {least} to {most}")
            return default
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        value = self._get(name, default, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.mistake(name, f"is {value!r}", f"a number from {least:g} to {most:g}")
            return default
        return float(value)

    def endpoint(self, name: str, default: Endpoint | None = None) -> Endpoint:
        self._known.add(name)
        if name not in self._values and default is not None:
            return default
        text = self.text(name)
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if host and colon and port.isascii() and port.isdigit() and int(port) <= 65535:
            return Endpoint(host, int(port))
        if text:
            self.mistake(name, f"is {text!r}", 'write "host:port", an IPv6 address in brackets: "[::1]:6432"')
        return Endpoint("", 0)

    def file(self, name: str, *, private: bool = False) -> Path:
        """The path of a file that was found readable; a private one only by those who should."""
        text = self.text(name)
        path = self._folder / text
        if text:
            self._read(name, path, private=private)
        return path

    def optional_file(self, name: str, *, private: bool = False) -> Path | None:
        self._known.add(name)
        return self.file(name, private=private) if name in self._values else None

    def secret(self, name: str) -> str:
        """A password by value (`password`), from a file (`password_file`) or a variable (`password_env`)."""
        forms = (name, f"{name}_file", f"{name}_env")
        self._known.update(forms)
        given = [f for f in forms if f in self._values]
        if len(given) != 1:
            what = f"{' and '.join(given)} are given" if given else "is missing"
            self.mistake(name, what, f"give one of {', '.join(forms)}")
            return ""
        if given[0] == name:
            return self.text(name)
        source = self.text(given[0])
        if not source:
            return ""
        if given[0] == forms[2]:
            value = self._environment.get(source)
            if not value:
                self.mistake(given[0], f"variable {source} is not set", f"set {source} to the password")
            return value or ""
        content = self._read(given[0], self._folder / source, private=True)
        value = content.decode("utf-8", "replace").rstrip("\r\n") if content is not None else None
        if value == "":
            self.mistake(given[0], f"{source} is empty", "write the password into it, on one line")
        return value or ""

    def _get(self, name: str, default: object, stand_in: object) -> object:
        self._known.add(name)
        if name in self._values:
            return self._values[name]
        if default is None:
            self.mistake(name, "is missing", f"add {name} = …; docs/configuration.md says what it is")
            return stand_in
        return default

    def _read(self, name: str, path: Path, *, private: bool) -> bytes | None:
        try:
            content = path.read_bytes()
            open_to_all = path.stat().st_mode & 0o007
        except OSError as e:
            self.mistake(name, f"{path} can't be read: {e.strerror}", "name a file that this user may read")
            return None
        if private and open_to_all:
            self.mistake(name, f"every user of this machine may read {path}", f"chmod 600 {path}")
        return content
