"""Sender and receiver under a seeded world: a link that is cut, ends that die, a database that forgets what it has not
committed. Whatever happens, the copy holds each transaction of the origin once, in order, whole.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from domicile.replication import core, wire
from domicile.replication.lsn import LSN_NONE, Lsn
from domicile.replication.pgoutput import PgTime

AT = PgTime(0)
FIRST = Lsn(100)
TABLES = (wire.OfferedTable("public", "t", (("id", "int"),), ("id",)),)


def change(n: int) -> wire.Change:
    return wire.Change(wire.Kind.INSERT, 0, None, (str(n).encode(),))


@dataclass
class World:
    """The origin's log and slot, the destination's tables, and the link between them."""

    random: random.Random
    log: list[tuple[Lsn, list[int]]] = field(default_factory=list)  #: transactions: end of commit, rows
    end: Lsn = FIRST
    slot: tuple[str, Lsn] | None = None
    # the destination's database: what is committed, and what an open transaction has done
    copy: str | None = None
    position: Lsn | None = None
    rows: list[list[int]] = field(default_factory=list)
    open_rows: list[int] = field(default_factory=list)
    backup: tuple[str | None, Lsn | None, list[list[int]]] = (None, None, [])
    # the session
    now: float = 0.0
    sender: core.Sender | None = None
    receiver: core.Receiver | None = None
    to_sender: deque[wire.Frame] = field(default_factory=deque)
    to_receiver: deque[wire.Frame] = field(default_factory=deque)
    work: tuple[core.Work, ...] | None = None
    preparing: wire.Offer | None = None
    reading_from: int | None = None  #: index into the log
    to_produce: deque[wire.Changes | wire.Commit | wire.Beat | wire.Copied] = field(default_factory=deque)
    copies: int = 0
    numbers: int = 0

    def commit_at_origin(self) -> None:
        rows = [self.numbers + i for i in range(self.random.randint(1, 3))]
        self.numbers += len(rows)
        self.end = Lsn(self.end + self.random.randint(10, 50))
        self.log.append((self.end, rows))
        self.end = Lsn(self.end + self.random.randint(0, 5))

    def call(self) -> None:
        self.hang_up()
        self.copies += 1
        slot = core.Slot(*self.slot, self.end) if self.slot else None
        self.sender = core.Sender("eu", "us", 1, TABLES, f"copy {self.copies}", slot, self.now, self.now)
        self.receiver = core.Receiver("us", "eu", self.copy, self.position, self.now, self.now)
        self.tell_receiver(core.Opened())

    def hang_up(self) -> None:
        self.sender = self.receiver = self.work = self.preparing = self.reading_from = None
        self.to_sender.clear()
        self.to_receiver.clear()
        self.to_produce.clear()
        self.open_rows = []  # the database rolls back

    def tell_sender(self, event: core.Event) -> None:
        assert self.sender is not None
        self.sender, effects = self.sender.step(event, self.now)
        for effect in effects:
            match effect:
                case core.Send(frame):
                    self.to_receiver.append(frame)
                case core.StartCopy():
                    self.slot = (self.sender.new_copy, self.end)
                    for _, rows in self.log:
                        self.to_produce.append(wire.Changes(tuple(map(change, rows))))
                    self.to_produce.append(wire.Copied(self.end, AT))
                case core.StartStream(position):
                    assert self.slot is not None
                    assert position >= self.slot[1], "the slot no longer holds what is asked for"
                    self.reading_from = sum(1 for end, _ in self.log if end <= position)
                case core.Confirm(position):
                    assert self.slot is not None
                    assert position <= (self.position or LSN_NONE), "confirmed what is not durable"
                    self.slot = (self.slot[0], max(self.slot[1], position))
                case core.Close():
                    self.hang_up()
                    return
                case _:
                    raise AssertionError(effect)

    def tell_receiver(self, event: core.Event) -> None:
        assert self.receiver is not None
        self.receiver, effects = self.receiver.step(event, self.now)
        for effect in effects:
            match effect:
                case core.Send(frame):
                    self.to_sender.append(frame)
                case core.Prepare(offer):
                    self.preparing = offer
                case core.Apply(work):
                    assert self.work is None, "two batches at once"
                    self.work = work
                case core.Close():
                    self.hang_up()
                    return
                case _:
                    raise AssertionError(effect)

    def produce(self) -> None:
        if self.reading_from is not None and not self.to_produce:
            if self.reading_from < len(self.log):
                end, rows = self.log[self.reading_from]
                self.reading_from += 1
                parts = [rows] if self.random.random() < 0.5 else [[n] for n in rows]
                self.to_produce += [wire.Changes(tuple(map(change, part))) for part in parts]
                self.to_produce.append(wire.Commit(end, AT))
            elif self.random.random() < 0.3:
                self.to_produce.append(wire.Beat(self.end, AT))
        if self.to_produce:
            self.tell_sender(core.Produced(self.to_produce.popleft()))

    def prepare(self) -> None:
        assert self.preparing is not None
        if not self.preparing.resume:
            self.copy, self.position, self.rows = None, None, []
        self.copying = self.preparing.copy
        self.preparing = None
        self.tell_receiver(core.Prepared())

    def apply(self) -> None:
        assert self.work is not None
        work, self.work = self.work, None
        last = max((n for n, item in enumerate(work) if not isinstance(item, wire.Changes)), default=-1)
        # What stands before the last end becomes durable at once, the rest waits in the open transaction.
        for n, item in enumerate(work):
            if isinstance(item, wire.Changes):
                self.open_rows += [int(c.new[0]) for c in item.changes if c.new and c.new[0]]
            else:
                self.rows.append(self.open_rows)
                self.open_rows = []
                if n == last:
                    self.position = item.position
                    self.copy = self.copying
        self.check()
        self.tell_receiver(core.Applied(self.position or LSN_NONE))

    def check(self) -> None:
        """What the copy holds is what the origin had committed at its position: nothing lost, doubled or torn."""
        if self.position is not None:
            held = [n for rows in self.rows for n in rows]
            assert held == [n for end, rows in self.log if end <= self.position for n in rows]

    def step(self) -> None:
        choice = self.random.random()
        self.now += self.random.random()
        if choice < 0.03:
            self.call() if self.random.random() < 0.5 else self.hang_up()
        elif choice < 0.04:
            # The server dies and comes back; a slot's last confirmations may be forgotten by it.
            self.hang_up()
            if self.slot:
                self.slot = (self.slot[0], max(Lsn(self.slot[1] - self.random.randint(0, 60)), FIRST))
        elif choice < 0.045:
            self.slot = None
            self.hang_up()
        elif choice < 0.055:
            self.backup = self.copy, self.position, [*self.rows]
        elif choice < 0.06:
            # The destination is restored from its backup.
            self.hang_up()
            self.copy, self.position, rows = self.backup
            self.rows = [*rows]
        elif choice < 0.15:
            self.commit_at_origin()
        elif self.receiver is None:
            self.call()
        elif choice < 0.40:
            self.produce()
        elif choice < 0.60 and self.to_receiver and not self.receiver.full:
            self.tell_receiver(core.Received(self.to_receiver.popleft(), 10))
        elif choice < 0.75 and self.to_sender:
            self.tell_sender(core.Received(self.to_sender.popleft(), 10))
        elif choice < 0.85 and self.preparing is not None:
            self.prepare()
        elif choice < 0.97 and self.work is not None:
            self.apply()
        elif self.sender is not None and self.receiver is not None:
            self.tell_sender(core.Tick())
            if self.receiver is not None:
                self.tell_receiver(core.Tick())


@pytest.mark.parametrize("first_seed", range(0, 300, 50))
def test_nothing_is_lost_doubled_reordered_or_torn(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 50):
        world = World(random.Random(seed))
        for _ in range(1_500):
            world.step()
        # Left in peace the copy catches up.
        world.now += 1
        for _ in range(20_000):
            if world.receiver is None:
                world.call()
            world.produce()
            if world.receiver is not None and world.to_receiver:
                world.tell_receiver(core.Received(world.to_receiver.popleft(), 10))
            if world.preparing is not None:
                world.prepare()
            if world.work is not None:
                world.apply()
            if world.sender is not None and world.to_sender:
                world.tell_sender(core.Received(world.to_sender.popleft(), 10))
            if world.position is not None and world.log and world.position >= world.log[-1][0]:
                break
        assert world.position is not None, f"seed {seed}"
        assert [n for rows in world.rows for n in rows] == list(range(world.numbers)), f"seed {seed}"


def sender(**what: object) -> core.Sender:
    state = core.Sender("eu", "us", 1, TABLES, "new", core.Slot("old", Lsn(10), Lsn(20)), 0.0, 0.0)
    return core.replace(state, **what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("copy", "position", "resumes"),
    [
        ("old", Lsn(10), True),
        ("old", Lsn(20), True),
        ("old", Lsn(9), False),  # the slot has let go of what follows
        ("old", Lsn(21), False),  # a position that the log has not reached: the server was restored
        ("other", Lsn(15), False),
        (None, None, False),
        ("old", None, False),
    ],
)
def test_when_a_copy_goes_on(copy: str | None, position: Lsn | None, resumes: bool) -> None:
    state, effects = sender().step(core.Received(wire.Hello(1, "us", copy, position), 1), 0.0)
    [effect] = effects
    assert isinstance(effect, core.Send)
    assert isinstance(effect.frame, wire.Offer)
    assert (effect.frame.resume, effect.frame.copy) == ((True, "old") if resumes else (False, "new"))
    _, effects = state.step(core.Received(wire.Ready(), 1), 0.0)
    assert effects == ((core.StartStream(position),) if resumes and position else (core.StartCopy(),))


def closed(effects: tuple[core.Effect, ...]) -> str:
    [close] = effects
    assert isinstance(close, core.Close)
    assert close.reason is not None
    return close.reason.sqlstate


def test_who_claims_to_be_another_region_is_refused() -> None:
    assert closed(sender().step(core.Received(wire.Hello(1, "ap", None, None), 1), 0.0)[1]) == "28000"
    receiver = core.Receiver("us", "eu", None, None, 0.0, 0.0)
    offer = wire.Offer(1, "ap", 1, "c", False, ())
    assert closed(receiver.step(core.Received(offer, 1), 0.0)[1]) == "28000"


def test_another_protocol_version_is_refused() -> None:
    assert closed(sender().step(core.Received(wire.Hello(2, "us", None, None), 1), 0.0)[1]) == "0A000"
    receiver = core.Receiver("us", "eu", None, None, 0.0, 0.0)
    assert closed(receiver.step(core.Received(wire.Offer(2, "eu", 1, "c", False, ()), 1), 0.0)[1]) == "0A000"


@pytest.mark.parametrize("position", [4, 11])
def test_an_acknowledgement_of_what_was_not_sent_is_refused(position: int) -> None:
    state = sender(phase=core.Phase.STREAMING, sent=Lsn(10), confirmed=Lsn(5))
    assert closed(state.step(core.Received(wire.Ack(Lsn(position)), 1), 0.0)[1]) == "08P01"


@pytest.mark.parametrize(
    "frame",
    [
        wire.Commit(Lsn(10), AT),  # not after what was seen
        wire.Beat(Lsn(9), AT),
        wire.Copied(Lsn(20), AT),
        wire.Ready(),
        wire.Hello(1, "eu", None, None),
    ],
)
def test_what_an_origin_may_not_say_while_it_streams(frame: wire.Frame) -> None:
    state = core.Receiver("us", "eu", "c", Lsn(10), 0.0, 0.0, core.Phase.STREAMING, seen=Lsn(10))
    assert closed(state.step(core.Received(frame, 1), 0.0)[1]) == "08P01"


def test_a_beat_in_a_transaction_is_refused() -> None:
    state = core.Receiver("us", "eu", "c", Lsn(10), 0.0, 0.0, core.Phase.STREAMING, Lsn(10), in_transaction=True)
    assert closed(state.step(core.Received(wire.Beat(Lsn(20), AT), 1), 0.0)[1]) == "08P01"


def test_an_origin_may_not_go_on_with_a_copy_that_is_not_here() -> None:
    state = core.Receiver("us", "eu", "mine", Lsn(10), 0.0, 0.0)
    offer = wire.Offer(1, "eu", 1, "another", True, ())
    assert closed(state.step(core.Received(offer, 1), 0.0)[1]) == "08P01"


def test_silence_ends_a_session_and_signs_of_life_keep_it() -> None:
    state = sender(phase=core.Phase.STREAMING)
    state, effects = state.step(core.Tick(), core.ALIVE_EVERY_S)
    assert effects == (core.Send(wire.Alive()),)
    state, _ = state.step(core.Received(wire.Alive(), 1), 10.0)
    assert state.step(core.Tick(), 10.0 + core.SILENCE_S_MAX)[1] != ()
    assert closed(state.step(core.Tick(), 10.1 + core.SILENCE_S_MAX)[1]) == "08006"


def test_a_receiver_is_full_while_a_batch_is_being_applied_and_no_longer() -> None:
    state = core.Receiver("us", "eu", "c", Lsn(10), 0.0, 0.0, core.Phase.STREAMING, seen=Lsn(10))
    state, _ = state.step(core.Received(wire.Changes((change(1),)), core.QUEUE_BYTES_MAX), 0.0)
    assert not state.full  # it is being applied
    state, _ = state.step(core.Received(wire.Commit(Lsn(20), AT), core.QUEUE_BYTES_MAX), 0.0)
    assert state.full
    # It reads nothing meanwhile, however long that takes, and does not hold the silence against its peer.
    state, effects = state.step(core.Tick(), 100.0)
    assert effects == (core.Send(wire.Alive()),)
    state, effects = state.step(core.Applied(Lsn(10)), 100.0)
    assert not state.full
    assert state.step(core.Tick(), 101.0)[1] == ()
    assert effects == (core.Apply((wire.Commit(Lsn(20), AT),)),)
