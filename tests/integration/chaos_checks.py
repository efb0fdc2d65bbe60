# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds the journals of the chaos test's programs (chaos.h says what is in them) against what the library promises."""

import collections
import struct

STARTED, ENDED, RECEIVED, FAULT, FINISHED, REFUSED, PROCESS = range(1, 8)
CALL_STARTED, CALL_ENDED, CALL_ANSWERED, CALL_MAYBE, HANDLED, REPLYING = range(10, 16)
CONNECTING, CONNECTED, ACCEPTED, NAMELESS, OFFERED, WRITTEN, CLOSING, READ, READ_END, DAMAGED = range(20, 30)
RECORD = struct.Struct("<QIi")
BACKWARDS = 1 << 63
CLOSED_HERE = 1
ECONNRESET = 104


class Run:
    """One life of a program."""

    def __init__(self, number, name, journal, addresses):
        self.number, self.name, self.journal, self.addresses = number, name, journal, addresses
        self.was_killed = False

    def records(self):
        if not self.journal.exists():
            return []
        data = self.journal.read_bytes()
        return RECORD.iter_unpack(data[:len(data) - len(data) % RECORD.size])

    def destination(self, index):
        """The name of the program at an address."""
        return self.addresses[index].split(":")[1]


def text(number):
    return f"{(number & ~BACKWARDS) >> 32}/{number & 0xffffffff}" + (" backwards" if number & BACKWARDS else "")


class Journals:
    """What all programs have written down, by kind and number."""

    def __init__(self, runs):
        runs = list(runs)
        self.runs = {run.number: run for run in runs}
        self.notes = collections.defaultdict(lambda: collections.defaultdict(list))
        self.by_run = collections.defaultdict(collections.Counter)
        self.accepted_by = {}
        self.nameless = []  # (run, pid, result)
        self.kills = collections.Counter(run.name for run in runs if run.was_killed)
        self.names = {}  # number: the name of the destination
        for run in runs:
            for number, kind, value in run.records():
                self.take(run, number, kind, value)
        self.arrivals = collections.defaultdict(list)  # (receiver, sender, address): numbers in the order of their arrival
        for run in runs:
            for number, kind, _ in run.records():
                if kind == RECEIVED and number in self.notes[STARTED]:
                    self.arrivals[run.number, number >> 32, self.notes[STARTED][number][0]].append(number)

    def take(self, run, number, kind, value):
        if kind == FAULT:
            raise AssertionError(f"program {run.number} met fault {value} ({text(number)})")
        self.notes[kind][number].append(value)
        self.by_run[run.number][kind] += 1
        if kind in (STARTED, CALL_STARTED, CONNECTING):
            assert number >> 32 == run.number
            self.names[number] = run.destination(value)
        elif kind == ACCEPTED:
            assert number not in self.accepted_by, f"stream {text(number)} was accepted twice"
            self.accepted_by[number] = run
        elif kind == NAMELESS:
            self.nameless.append((run, number, value))
        elif kind == PROCESS:
            run.pid = value

    def finished(self, number):
        return self.by_run[(number & ~BACKWARDS) >> 32][FINISHED] > 0

    def outcome(self, number, *kinds):
        """(kind, value) of the one outcome; None if the program was killed before."""
        found = [(kind, value) for kind in kinds for value in self.notes[kind].get(number, ())]
        assert len(found) <= 1, f"{text(number)} has the outcomes {found}"
        assert found or not self.finished(number), f"{text(number)} has no outcome"
        return found[0] if found else None

    def check(self):
        """Returns what happened how often, by words."""
        counts = collections.Counter()
        self.check_messages(counts)
        self.check_calls(counts)
        self.check_streams(counts)
        return counts

    def check_messages(self, counts):
        received = self.notes[RECEIVED]
        missing = collections.defaultdict(list)
        for number, values in received.items():
            if number in self.notes[CALL_STARTED]:  # given up by its caller when it came
                continue
            assert number in self.notes[STARTED], f"message {text(number)} was received, but never sent"
            assert values == [0], f"message {text(number)} was received twice, or is damaged: {values}"
            counts["messages received"] += 1
        for number in self.notes[STARTED]:
            outcome = self.outcome(number, ENDED, REFUSED)
            counts[f"message: {outcome and outcome[1]}"] += 1
            if not outcome:
                continue
            if outcome[1] == 0 and number not in received:
                missing[self.names[number]].append(number)
            elif outcome[1] not in (0, -ECONNRESET):
                assert number not in received, f"message {text(number)} was received in spite of error {outcome[1]}"
        self.check_order()
        # A program that is killed between taking a message and writing it down has taken it: one for each kill at most.
        for name, numbers in missing.items():
            assert len(numbers) <= self.kills[name], f"delivered, but not received: {list(map(text, numbers))}"

    def check_order(self):
        """What one program has sent to one address, another receives in that order, as long as each ends in 0."""
        for (run, sender, address), arrived in self.arrivals.items():
            numbers = [number for number in arrived if 0 in self.notes[ENDED].get(number, ())]
            for before, after in zip(numbers, numbers[1:]):
                assert before < after, \
                    f"program {run} received {text(after)} after {text(before)}, both sent to {self.runs[sender].addresses[address]}"

    def check_calls(self, counts):
        handled, replying = self.notes[HANDLED], self.notes[REPLYING]
        for number, values in handled.items():
            assert number in self.notes[CALL_STARTED], f"request {text(number)} was handled, but never made"
            assert values == [0], f"request {text(number)} was handled twice, or is damaged: {values}"
        for number in self.notes[CALL_STARTED]:
            outcome = self.outcome(number, CALL_ENDED, CALL_ANSWERED, CALL_MAYBE, REFUSED)
            counts[f"call: {outcome and outcome[1]}"] += 1
            if not outcome:
                continue
            kind, result = outcome
            if (kind, result) == (CALL_ENDED, 0) or kind == CALL_ANSWERED:
                assert number in handled, f"call {text(number)} has the answer {result}, but was not handled"
                assert result in replying[number], f"call {text(number)} has the answer {result}, not {replying[number]}"
                counts["calls answered"] += 1
            elif kind == CALL_ENDED and result != -ECONNRESET or kind == REFUSED:
                assert number not in handled and number not in self.notes[RECEIVED], \
                    f"request {text(number)} was handled in spite of error {result}"

    def check_streams(self, counts):
        assert not self.notes[DAMAGED], f"damaged streams: {list(map(text, self.notes[DAMAGED]))}"
        pids = {run.pid: run for run in self.runs.values() if hasattr(run, "pid")}
        for number in self.notes[CONNECTING]:
            outcome = self.outcome(number, CONNECTED)
            counts[f"stream: {outcome and outcome[1]}"] += 1
        for number, run in self.accepted_by.items():
            assert self.notes[CONNECTED].get(number) == [0], f"stream {text(number)} was accepted, but not connected"
            opener = self.runs[number >> 32]
            assert self.notes[ACCEPTED][number] == [opener.pid], f"stream {text(number)} came with another's pid"
        for number, ends in self.notes[READ_END].items():
            assert len(ends) == 1, f"stream {text(number)} ended more than once: {ends}"
            self.check_direction(number, max(self.notes[READ][number]), ends[0])
            counts[f"stream read to: {ends[0]}"] += 1
        for run, pid, result in self.nameless:
            counts[f"stream without a byte: {result}"] += 1
            assert result in (0, -ECONNRESET, CLOSED_HERE), f"a stream ended with {result}"
            if result == 0:
                opener = pids[pid]
                gave_up = any(values != [0] for number, values in self.notes[CONNECTED].items()
                              if number >> 32 == opener.number)
                assert opener.was_killed or gave_up, \
                    f"program {run.number} read an end of file from program {opener.number} that wrote something"

    def check_direction(self, number, read, result):
        """Every byte that was read was written; the end of file says that there were no more."""
        opener = self.runs[(number & ~BACKWARDS) >> 32]
        acceptor = self.accepted_by.get(number & ~BACKWARDS)
        writer = acceptor if number & BACKWARDS else opener
        offered = max(self.notes[OFFERED].get(number, [0]))
        written = max(self.notes[WRITTEN].get(number, [0]))
        what = f"stream {text(number)}: {read} bytes and {result}, {written} of {offered} written"
        assert read <= offered, f"{what}: more than was written"
        assert result in (0, -ECONNRESET), what
        if result != 0:
            return
        if writer is None:  # it was closed, or its program killed, before the opener's number was read
            name = self.names[number & ~BACKWARDS].removesuffix("-s")
            closed = any(end == CLOSED_HERE and run.name == name for run, _, end in self.nameless)
            assert read == 0 and (self.kills[name] or closed), f"{what}: an end of file that nobody has made"
        elif number in self.notes[CLOSING]:
            assert read == written, f"{what}: an end of file before the end"
        else:
            assert writer.was_killed, f"{what}: an end of file that nobody has made"
            assert read >= written, f"{what}: an end of file before the end"
