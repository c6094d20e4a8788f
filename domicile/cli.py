"""The command line. Each command is one function here; what it does stands in the module of its name.

Exit codes: 0 all is well, 1 it is not and the reason was printed, 2 the command was written wrong (argparse).
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from . import __version__
from .catalog.configuration import Configuration, ConfigurationError, load
from .catalog.errors import DomicileError
from .catalog.names import region_name
from .demo import command as demo_command

PASSWORD_BYTES = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments (sys.argv by default) name; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except DomicileError as error:
        print(_told(error), file=sys.stderr)
        return 1
    except (ConfigurationError, psycopg.OperationalError) as error:
        print(f"domicile: {str(error).strip()}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"domicile: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    return code


def _told(error: DomicileError) -> str:
    """The error as psql would print it."""
    lines = [f"domicile: {error.message}"]
    lines += [f"DETAIL:  {error.detail}"] if error.detail else []
    lines += [f"HINT:  {error.hint}"] if error.hint else []
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="domicile",
        description="A global data network made of the PostgreSQL servers you already have.",
    )
    parser.add_argument("--version", action="version", version=f"domicile {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="three regions on this machine, with a shop and a guided tour")
    demo_command.add_arguments(demo)
    demo.set_defaults(run=demo_command.run)

    up = commands.add_parser("up", help="run a region's node: gateway, guard and agent")
    _configuration_argument(up)
    up.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    up.set_defaults(run=_up)

    init = commands.add_parser("init", help="make an existing database a region, or add regions to it")
    init.add_argument("region", help="which region this database is")
    init.add_argument(
        "regions",
        nargs="+",
        metavar="REGION=JURISDICTION",
        type=_region_and_jurisdiction,
        help="all regions of the federation, in the order of their numbers: the same in every region",
    )
    init.add_argument("--dsn", required=True, help="a DBA's connection string (the password may be in PGPASSWORD)")
    init.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="of the node's role; made with a random password where it is not there",
    )
    init.add_argument(
        "--dry-run", action="store_true", help="say what is needed and what would be done, change nothing"
    )
    init.set_defaults(run=_init)

    certificates = commands.add_parser("certificates", help="make the federation's authority and certificates")
    certificates.add_argument("folder", type=Path)
    certificates.add_argument("regions", nargs="+", metavar="REGION")
    certificates.add_argument("--renew", action="store_true", help="make the regions' certificates anew")
    certificates.set_defaults(run=_certificates)

    status = commands.add_parser("status", help="ask every region how it is")
    _configuration_argument(status)
    status.set_defaults(run=_status)

    doctor = commands.add_parser("doctor", help="look at every part of a region's way, and say what to mend")
    _configuration_argument(doctor)
    doctor.set_defaults(run=_doctor)

    explain = commands.add_parser("explain", help="where a statement would go, and why")
    explain.add_argument("statement")
    explain.add_argument(
        "--dsn", default="", help="of a gateway; what it leaves out comes from PGHOST, PGPORT, PGUSER, PGPASSWORD …"
    )
    explain.set_defaults(run=_explain)

    policy = commands.add_parser("policy", help="what crosses the border, and what would")
    actions = policy.add_subparsers(title="actions", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="what of each table is seen where, and by whom")
    show.add_argument("table", nargs="?")
    diff = actions.add_parser("diff", help="what a file of policies would change; exit code 1 where more would cross")
    diff.add_argument("file", type=Path)
    for action in (show, diff):
        action.add_argument("--dsn", default="", help="a DBA's connection string to the region's own server")
        action.set_defaults(run=_policy, action=action.prog.rsplit(" ", 1)[1])
    apply = actions.add_parser("apply", help="run a file of policies in every region given, all or none")
    apply.add_argument("file", type=Path)
    apply.add_argument(
        "--dsn", action="append", required=True, help="a DBA's connection string to a region's own server; one each"
    )
    apply.set_defaults(run=_policy_apply)
    return parser


def _configuration_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configuration", type=Path, nargs="?", default=Path("domicile.toml"), metavar="FILE")


def _region_and_jurisdiction(text: str) -> tuple[str, str]:
    name, equals, jurisdiction = text.partition("=")
    if not equals or not jurisdiction:
        raise argparse.ArgumentTypeError(f"{text!r} is not REGION=JURISDICTION, such as eu=GDPR")
    try:
        return region_name(name), jurisdiction
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _up(options: argparse.Namespace) -> int:
    configuration = load(options.configuration)
    import uvloop

    from . import node

    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    uvloop.run(node.run(configuration, lambda: _say_ready(configuration)))
    return 0


def _say_ready(configuration: Configuration) -> None:
    print(f"region {configuration.region} is up: gateway at {configuration.gateway.listen}", flush=True)


def _init(options: argparse.Namespace) -> int:
    from . import init

    regions: Mapping[str, str] = dict(options.regions)
    if len(regions) != len(options.regions) or options.region not in regions:
        raise DomicileError("22023", f"region {options.region} must be among the regions, and each be named once")
    with psycopg.connect(options.dsn) as connection:
        findings = init.inspect(connection, options.region, regions)
        connection.rollback()
    print(f"Region {options.region}, {findings.level} level. What it needs:")
    for need in findings.needs:
        mark = "ok     " if need.met else ("MISSING" if need.required else "missing")
        print(f"  {mark}  {need.what}: {need.why}")
        if not need.met:
            print(f"           {need.remedy}")
    steps = findings.steps + (("set the password of domicile_node",) if options.password_file else ())
    print("\n".join(("What it does:", *(f"  {step}" for step in steps))) if steps else "Nothing is left to do.")
    if findings.refusals:
        raise init.Refused(options.region, findings.refusals)
    if options.dry_run:
        print("Nothing was changed: --dry-run.")
        return 0
    password = _password(options.password_file) if options.password_file else None
    init.install(options.dsn, region=options.region, regions=regions, node_password=password)
    print(f"This database is region {options.region}.")
    return 0


def _password(path: Path) -> str:
    """The password in the file, which is made with a random one where it is not there."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    except FileExistsError:
        pass
    password = path.read_text().rstrip("\r\n")
    if not password:
        raise DomicileError("22023", f"{path} is empty", hint="Write a password into it, or remove it.")
    return password


def _certificates(options: argparse.Namespace) -> int:
    from . import certificates

    try:
        files = certificates.make(options.folder, options.regions, renew=options.renew)
    except ValueError as e:
        raise DomicileError("22023", str(e)) from None
    except FileNotFoundError as e:
        raise DomicileError(
            "58P01",
            f"the authority's key {e.filename} is not there",
            hint="Certificates are made where the authority's key is kept.",
        ) from None
    print(f"{options.folder}/authority.key signs for the federation: keep it, and off the servers.")
    for region, mine in files.items():
        print(f"Region {region} needs {mine.certificate.name}, {mine.key.name} and {mine.authority.name}.")
    return 0


def _status(options: argparse.Namespace) -> int:
    from . import status

    return status.command(load(options.configuration))


def _doctor(options: argparse.Namespace) -> int:
    from . import doctor

    return doctor.command(options.configuration)


def _explain(options: argparse.Namespace) -> int:
    with _server_errors(), psycopg.connect(options.dsn, autocommit=True) as connection:
        for (line,) in connection.execute(f"explain {options.statement}".encode()):
            print(line)
    return 0


def _policy(options: argparse.Namespace) -> int:
    from . import policy

    with _server_errors(), psycopg.connect(options.dsn, autocommit=True) as connection:
        if options.action == "show":
            return policy.print_exposure(connection, options.table)
        return policy.print_diff(connection, options.file.read_text(encoding="utf-8"))


def _policy_apply(options: argparse.Namespace) -> int:
    from . import policy

    with _server_errors():
        return policy.print_apply(options.dsn, options.file.read_text(encoding="utf-8"))


@contextmanager
def _server_errors() -> Iterator[None]:
    """Errors that PostgreSQL or a gateway reports become ours, in the same words."""
    try:
        yield
    except psycopg.OperationalError:
        raise
    except psycopg.Error as e:
        raise DomicileError(
            e.sqlstate or "XX000", e.diag.message_primary or str(e), e.diag.message_detail, e.diag.message_hint
        ) from None
