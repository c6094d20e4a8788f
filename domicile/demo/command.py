"""`domicile demo`: its options, its screen, and how it ends: in order, whatever ends it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from domicile.catalog.errors import DomicileError

from .regions import PORTS, REGIONS, ROUND_TRIPS_MS, pair

if TYPE_CHECKING:
    from .federation import Federation
    from .screen import Screen

ROUND_TRIP_MS_MAX = 10_000.0
CUSTOMERS_MIN = 100  #: so that every region has some
CUSTOMERS_MAX = 1_000_000
WATCH_S = 1.0  #: how often the demo looks whether its parts are still there


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `domicile demo`."""
    parser.description = (
        "Starts three regions (us, eu, ap) on this machine, with simulated distances, a shop, and a guided tour. "
        "Ctrl-C stops all of it."
    )
    ports = parser.add_mutually_exclusive_group()
    ports.add_argument(
        "--port",
        type=_port,
        metavar="FIRST",
        help=f"gateways listen on this port and the next two (default {PORTS[0]})",
    )
    ports.add_argument("--ports", type=_ports, metavar="US,EU,AP", help="the gateways' ports, one by one")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder (default $DOMICILE_DATA, else .domicile here); reused"
    )
    parser.add_argument("--fresh", action="store_true", help="make the data folder's contents anew")
    parser.add_argument(
        "--latency",
        type=_latency,
        default=dict(ROUND_TRIPS_MS),
        metavar="MS",
        help="round trip between all regions, 0 for none, or us-eu=80,us-ap=150,eu-ap=220 (the default)",
    )
    parser.add_argument(
        "--pg-bin", type=Path, metavar="DIR", help="PostgreSQL programs to use, 15 or later (default: the wheel's 18)"
    )
    parser.add_argument("--customers", type=_customers, metavar="N", help="size of a new shop (default 30,000)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--no-tour", action="store_true", help="just serve")
    mode.add_argument(
        "--check", action="store_true", help="run the tour without a terminal, verify every claim, stop and exit"
    )


def run(arguments: argparse.Namespace) -> int:
    """0 when all went well (Ctrl-C included), 1 when something could not start or a claim of the tour failed."""
    # The command line reads this module for every command; servers, drivers and screens are loaded for this one.
    import psycopg

    from domicile import processes

    from .federation import Federation
    from .screen import Screen

    screen = Screen(interactive=False if arguments.check else None)
    federation = Federation(
        folder=_data_folder(arguments.data, os.environ),
        ports=arguments.ports or _following(arguments.port) or PORTS,
        pg_bin=arguments.pg_bin,
        round_trips_ms=arguments.latency,
        customers=arguments.customers,
    )
    _stop_on_signals()
    try:
        with screen.progress("looking for PostgreSQL") as progress:
            federation.start(progress, fresh=arguments.fresh)
        screen.status(f"ready in {progress.seconds:.1f} s")
        return _serve(federation, screen, arguments)
    except KeyboardInterrupt:
        screen.print()
        return 0
    except DomicileError as error:
        _tell(screen, error)
        return 1
    except OSError as error:
        _tell(screen, DomicileError("58030", str(error), hint=f"Is the data folder {federation.folder} usable?"))
        return 1
    except psycopg.Error as error:
        message, detail = error.diag.message_primary or str(error).strip(), error.diag.message_detail
        hint = f"The servers' logs stand in {federation.folder}; --fresh makes all of it anew."
        _tell(screen, DomicileError(error.sqlstate or "XX000", message, detail, hint))
        return 1
    finally:
        # From here on nothing interrupts: what was started is stopped.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        screen.status("stopping all of it")
        federation.stop()
        processes.stop_all()


def _serve(federation: Federation, screen: Screen, arguments: argparse.Namespace) -> int:
    from .tour import STEPS, Tour

    if arguments.check:
        return 0 if Tour(federation, screen).run(STEPS) else 1
    if not arguments.no_tour:
        Tour(federation, screen).run(STEPS)
    _say_how_to_connect(federation, screen)
    told: set[str] = set()
    waiting = threading.Event()
    while not _asked_to_stop:
        waiting.wait(WATCH_S)
        for part in federation.ended():
            if part not in told:
                told.add(part)
                screen.status(f"ended by itself: {part}")
    return 0


def _say_how_to_connect(federation: Federation, screen: Screen) -> None:
    rows = [(name, f"127.0.0.1:{region.gateway_port}", REGIONS[name]) for name, region in federation.regions.items()]
    screen.table("Gateways", ("region", "address", "jurisdiction"), rows)
    first = next(iter(federation.regions.values()))
    screen.say(
        f"Connect to any of them, for example:\n\n"
        f"    psql '{first.gateway_dsn('app')}'\n\n"
        f"Every address and password stands in `{federation.connections_file}`. **Ctrl-C stops all of it.**"
    )


def _tell(screen: Screen, error: DomicileError) -> None:
    screen.print()
    screen.error(error.sqlstate, error.message, error.detail or "", error.hint or "")


# --- ending


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_asked_to_stop: list[int] = []
"""The signals that came. An exception raised by a handler is lost where Python was in a finalizer; this is not."""


def _stop_on_signals() -> None:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        _asked_to_stop.append(number)
        raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, stop)


# --- options


def _data_folder(given: Path | None, environment: Mapping[str, str]) -> Path:
    return (given or Path(environment.get("DOMICILE_DATA") or ".domicile")).absolute()


def _following(first: int | None) -> tuple[int, ...] | None:
    return None if first is None else tuple(range(first, first + len(REGIONS)))


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535 - len(REGIONS) + 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to {65535 - len(REGIONS) + 1}")
    return int(text)


def _ports(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != len(REGIONS) or len(set(parts)) != len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not {len(REGIONS)} different ports, such as 6432,6433,6434")
    return tuple(_port(part.strip()) for part in parts)


def _customers(text: str) -> int:
    if not text.isdigit() or not CUSTOMERS_MIN <= int(text) <= CUSTOMERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {CUSTOMERS_MIN} to {CUSTOMERS_MAX:,}")
    return int(text)


def _latency(text: str) -> dict[frozenset[str], float]:
    """One number for all pairs, or pairs with a number each; pairs that are not named keep their default."""
    if "=" not in text:
        return dict.fromkeys(ROUND_TRIPS_MS, _milliseconds(text))
    result = dict(ROUND_TRIPS_MS)
    for part in text.split(","):
        name, _, value = part.partition("=")
        a, _, b = name.strip().partition("-")
        if pair(a, b) not in result:
            raise argparse.ArgumentTypeError(f"{name!r} is no pair of regions, such as us-eu")
        result[pair(a, b)] = _milliseconds(value)
    return result


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= ROUND_TRIP_MS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of milliseconds up to {ROUND_TRIP_MS_MAX:.0f}")
    return value


def main() -> int:
    """For running the demo by itself: `python -m domicile.demo.command`."""
    parser = argparse.ArgumentParser(prog="domicile demo")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
