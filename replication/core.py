"""The two ends of a session between agents, as pure state machines: `step(state, event, now) -> (state, effects)`.

The *sender* is the origin's end: it offers its tables, lets the destination copy anew or go on, sends transactions
in commit order, and lets the slot move only to what the destination says is durable. The *receiver* is the
destination's end: it hands whole transactions to the database in the order in which they came, several to a batch
while an earlier batch is being applied, and acknowledges what is durable.

What they guarantee together, for any loss of either end at any instant:

- the receiver's durable position and rows change in one transaction of the destination, so that each transaction of
  the origin is applied once;
- the sender confirms no position that was not acknowledged, and no acknowledgement of what was not sent, so that
  the slot still holds whatever the destination has not;
- a session goes on only from a position that the slot can serve (neither before what it has let go, nor after the
  end of the log: a restored server) and for the same copy (same slot, same masks); else the rows come anew.

No IO, no clock (`now` is given, in seconds that only grow) and no randomness. Rows are not looked into.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from ..catalog.errors import PROTOCOL_VIOLATION
from . import wire
from .lsn import LSN_NONE, Lsn

SILENCE_S_MAX = 15.0
"""A peer unheard of for so long is gone, whatever the socket says: half-open links end here."""
ALIVE_EVERY_S = 3.0  #: a fifth of the above, so that four may be lost or late
QUEUE_FRAMES_MAX = 1_000
QUEUE_BYTES_MAX = 16 << 20
"""Of what a receiver holds beside the batch that is being applied. Full means: read no more from the link."""


class Phase(Enum):
    GREETING = "greeting"  #: before the offer
    PREPARING = "preparing"  #: the destination makes its tables
    COPYING = "copying"
    STREAMING = "streaming"
    CLOSED = "closed"


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The link stands; the first event of a receiver."""


@dataclass(frozen=True, slots=True)
class Received:
    frame: wire.Frame
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; at least every ALIVE_EVERY_S."""


@dataclass(frozen=True, slots=True)
class Produced:
    """Sender: what the log (or the first copy) holds next, masked."""

    frame: wire.Changes | wire.Commit | wire.Beat | wire.Copied


@dataclass(frozen=True, slots=True)
class Prepared:
    """Receiver: its tables are as the offer wants them, and empty unless it resumes."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Receiver: the batch that was handed out last is in the database, and `position` is durable."""

    position: Lsn


@dataclass(frozen=True, slots=True)
class Failed:
    """The driver can't go on. The words may cross the border: they hold no row."""

    refusal: wire.Refuse


Event = Opened | Received | Tick | Produced | Prepared | Applied | Failed

# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    frame: wire.Frame


@dataclass(frozen=True, slots=True)
class StartCopy:
    """Sender: make the slot anew, and send the rows that its snapshot shows."""


@dataclass(frozen=True, slots=True)
class StartStream:
    """Sender: read the slot from `position` on."""

    position: Lsn


@dataclass(frozen=True, slots=True)
class Confirm:
    """Sender: the slot may move to `position`."""

    position: Lsn


@dataclass(frozen=True, slots=True)
class Prepare:
    """Receiver: make the offered tables; unless it resumes, withdraw all rows of this origin first."""

    offer: wire.Offer


@dataclass(frozen=True, slots=True)
class Apply:
    """Receiver: this work, in order. The last transaction may be incomplete: it stays open in the database."""

    work: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """End the session. `reason` is None where the peer ended it by its own word, which is in `heard`."""

    reason: wire.Refuse | None
    heard: wire.Refuse | None = None


Work = wire.Changes | wire.Commit | wire.Beat | wire.Copied
Effect = Send | StartCopy | StartStream | Confirm | Prepare | Apply | Close


# --- the origin's end -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slot:
    """What the origin's slot for this destination can serve when the session begins."""

    copy: str  #: the copy that it was made for, under the masks that hold now
    confirmed: Lsn  #: nothing before is left
    end: Lsn  #: of the log


@dataclass(frozen=True, slots=True)
class Sender:
    region: str  #: the origin
    destination: str  #: as its certificate says
    policy_version: int
    tables: tuple[wire.OfferedTable, ...]
    new_copy: str  #: how a copy made in this session will be named
    slot: Slot | None
    heard_at: float
    said_at: float
    phase: Phase = Phase.GREETING
    offer: wire.Offer | None = None  #: once it has been made
    resume_at: Lsn | None = None
    sent: Lsn = LSN_NONE
    confirmed: Lsn = LSN_NONE
    in_transaction: bool = False

    def step(self, event: Event, now: float) -> tuple[Sender, tuple[Effect, ...]]:
        """The state after the event, and what the driver must do, in order. Nothing more after Close."""
        match self.phase, event:
            case Phase.CLOSED, _:
                return self, ()
            case _, Tick():
                if now - self.heard_at > SILENCE_S_MAX:
                    return self._close("08006", f"region {self.destination} has not been heard of")
                if self.phase is not Phase.GREETING and now - self.said_at >= ALIVE_EVERY_S:
                    return replace(self, said_at=now), (Send(wire.Alive()),)
                return self, ()
            case _, Failed(refusal):
                return replace(self, phase=Phase.CLOSED), (Close(refusal),)
            case _, Received(wire.Refuse() as refusal):
                return replace(self, phase=Phase.CLOSED), (Close(None, refusal),)
            case Phase.GREETING, Received(wire.Hello() as hello):
                return replace(self, heard_at=now)._greeted(hello, now)
            case phase, Received(wire.Alive()) if phase is not Phase.GREETING:
                return replace(self, heard_at=now), ()
            case Phase.PREPARING, Received(wire.Ready()):
                if self.resume_at is None:
                    return replace(self, phase=Phase.COPYING, heard_at=now), (StartCopy(),)
                state = replace(self, phase=Phase.STREAMING, heard_at=now)
                return state, (StartStream(self.resume_at),)
            case Phase.COPYING, Produced(wire.Changes() as frame):
                return replace(self, said_at=now), (Send(frame),)
            case Phase.COPYING, Produced(wire.Copied(position) as frame):
                state = replace(self, phase=Phase.STREAMING, said_at=now, sent=position)
                return state, (Send(frame), StartStream(position))
            case Phase.STREAMING, Produced(wire.Changes() as frame):
                return replace(self, said_at=now, in_transaction=True), (Send(frame),)
            case Phase.STREAMING, Produced(wire.Commit(position) as frame):
                state = replace(self, said_at=now, in_transaction=False, sent=position)
                return state, (Send(frame),)
            case Phase.STREAMING, Produced(wire.Beat(position) as frame) if not self.in_transaction:
                return replace(self, said_at=now, sent=max(self.sent, position)), (Send(frame),)
            case Phase.STREAMING, Received(wire.Ack(position)):
                if not self.confirmed <= position <= self.sent:
                    return self._close(PROTOCOL_VIOLATION, f"acknowledged {position}, but sent {self.sent}")
                return replace(self, confirmed=position, heard_at=now), (Confirm(position),)
            case phase, Received(frame):
                return self._close(PROTOCOL_VIOLATION, f"{type(frame).__name__} while {phase.value}")
        raise AssertionError(f"{type(event).__name__} while {self.phase.value}")

    def _greeted(self, hello: wire.Hello, now: float) -> tuple[Sender, tuple[Effect, ...]]:
        if hello.version != wire.PROTOCOL_VERSION:
            return self._close("0A000", f"agents' protocol {hello.version}; {self.region} speaks 1")
        if hello.region != self.destination:
            return self._close("28000", f"{self.destination}'s certificate, but region {hello.region}")
        slot = self.slot
        resume_at = None
        if (
            slot is not None
            and hello.position is not None
            and hello.copy == slot.copy
            and slot.confirmed <= hello.position <= slot.end
        ):
            resume_at = hello.position
        copy = slot.copy if slot is not None and resume_at is not None else self.new_copy
        offer = wire.Offer(
            wire.PROTOCOL_VERSION, self.region, self.policy_version, copy, resume_at is not None, self.tables
        )
        at = resume_at or LSN_NONE
        state = replace(
            self, phase=Phase.PREPARING, offer=offer, resume_at=resume_at, said_at=now, sent=at, confirmed=at
        )
        return state, (Send(offer),)

    def _close(self, sqlstate: str, message: str) -> tuple[Sender, tuple[Effect, ...]]:
        return replace(self, phase=Phase.CLOSED), (Close(wire.Refuse(sqlstate, message)),)


# --- the destination's end ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receiver:
    region: str  #: the destination
    origin: str  #: as its certificate says
    copy: str | None  #: of what the tables hold
    position: Lsn | None  #: durable
    heard_at: float
    said_at: float
    phase: Phase = Phase.GREETING
    seen: Lsn = LSN_NONE  #: where the last complete transaction that was received ends
    in_transaction: bool = False  #: the last frame received was a part of one
    queue: tuple[Work, ...] = ()
    queue_bytes: int = 0
    applying: bool = False

    @property
    def full(self) -> bool:
        """True where the driver must read no more until a batch has been applied."""
        return len(self.queue) >= QUEUE_FRAMES_MAX or self.queue_bytes >= QUEUE_BYTES_MAX

    def step(self, event: Event, now: float) -> tuple[Receiver, tuple[Effect, ...]]:
        """The state after the event, and what the driver must do, in order. Nothing more after Close."""
        match self.phase, event:
            case Phase.CLOSED, _:
                return self, ()
            case _, Tick():
                # While the queue is full nothing is read, so nothing can be heard.
                if not self.full and now - self.heard_at > SILENCE_S_MAX:
                    return self._close("08006", f"region {self.origin} has not been heard of")
                if self.phase is not Phase.GREETING and now - self.said_at >= ALIVE_EVERY_S:
                    return replace(self, said_at=now), (Send(wire.Alive()),)
                return self, ()
            case _, Failed(refusal):
                return replace(self, phase=Phase.CLOSED), (Close(refusal),)
            case _, Received(wire.Refuse() as refusal):
                return replace(self, phase=Phase.CLOSED), (Close(None, refusal),)
            case Phase.GREETING, Opened():
                hello = wire.Hello(wire.PROTOCOL_VERSION, self.region, self.copy, self.position)
                return replace(self, said_at=now, heard_at=now), (Send(hello),)
            case Phase.GREETING, Received(wire.Offer() as offer):
                return replace(self, heard_at=now)._offered(offer)
            case phase, Received(wire.Alive()) if phase is not Phase.GREETING:
                return replace(self, heard_at=now), ()
            case Phase.PREPARING, Prepared():
                phase = Phase.STREAMING if self.position is not None else Phase.COPYING
                state = replace(self, phase=phase, said_at=now, seen=self.position or LSN_NONE)
                return state, (Send(wire.Ready()),)
            case Phase.COPYING, Received(wire.Changes() as frame, size):
                return replace(self, heard_at=now)._queued(frame, size)
            case Phase.COPYING, Received(wire.Copied(position) as frame, size):
                state = replace(self, phase=Phase.STREAMING, heard_at=now, seen=position)
                return state._queued(frame, size)
            case Phase.STREAMING, Received(wire.Changes() as frame, size):
                return replace(self, heard_at=now, in_transaction=True)._queued(frame, size)
            case Phase.STREAMING, Received(wire.Commit(position) as frame, size) if position > self.seen:
                state = replace(self, heard_at=now, in_transaction=False, seen=position)
                return state._queued(frame, size)
            case Phase.STREAMING, Received(wire.Beat(position) as frame, size) if (
                position >= self.seen and not self.in_transaction
            ):
                return replace(self, heard_at=now, seen=position)._queued(frame, size)
            case ((Phase.COPYING | Phase.STREAMING), Applied(position)):
                return self._applied(position, now)
            case phase, Received(frame):
                return self._close(PROTOCOL_VIOLATION, f"{type(frame).__name__} while {phase.value}")
        raise AssertionError(f"{type(event).__name__} while {self.phase.value}")

    def _offered(self, offer: wire.Offer) -> tuple[Receiver, tuple[Effect, ...]]:
        if offer.version != wire.PROTOCOL_VERSION:
            return self._close("0A000", f"agents' protocol {offer.version}; {self.region} speaks 1")
        if offer.region != self.origin:
            return self._close("28000", f"{self.origin}'s certificate, but region {offer.region}")
        if offer.resume and (self.position is None or offer.copy != self.copy):
            return self._close(PROTOCOL_VIOLATION, "resumes a copy that is not here")
        state = replace(
            self,
            phase=Phase.PREPARING,
            copy=offer.copy,
            position=self.position if offer.resume else None,
        )
        return state, (Prepare(offer),)

    def _queued(self, work: Work, size: int) -> tuple[Receiver, tuple[Effect, ...]]:
        if self.applying:
            return replace(self, queue=(*self.queue, work), queue_bytes=self.queue_bytes + size), ()
        return replace(self, applying=True), (Apply((work,)),)

    def _applied(self, position: Lsn, now: float) -> tuple[Receiver, tuple[Effect, ...]]:
        if not self.applying or not (self.position or LSN_NONE) <= position <= self.seen:
            raise AssertionError(f"applied {position}, seen {self.seen}")
        effects: list[Effect] = []
        state = replace(self, heard_at=now) if self.full else self
        if position > (self.position or LSN_NONE):
            state = replace(state, position=position, said_at=now)
            effects.append(Send(wire.Ack(position)))
        if not state.queue:
            return replace(state, applying=False), tuple(effects)
        effects.append(Apply(state.queue))
        return replace(state, queue=(), queue_bytes=0), tuple(effects)

    def _close(self, sqlstate: str, message: str) -> tuple[Receiver, tuple[Effect, ...]]:
        return replace(self, phase=Phase.CLOSED), (Close(wire.Refuse(sqlstate, message)),)
