# SPDX-License-Identifier: LGPL-2.1-or-later
"""
All executions of a small C program that C11's memory model allows, as RC11 repairs it (Lahav, Vafeiadis, Kang, Hur, Dreyer: Repairing
sequential consistency in C/C++11, 2017), with C++20's narrower release sequences: what is right here is right in all of them. The
programs are litmus tests as herd7 reads them: see tests/model/README.md.

An execution is what each thread did, a write for each read to read from (rf), and an order of the writes to each place (mo). They are
all tried. Relations are lists of bit sets: relation[a] has the bit b set if a comes before b.
"""
import collections
import itertools
import re

Event = collections.namedtuple("Event", "thread kind place order value")  # kind: R, W, F; the two of an update stand together
ORDERS = {"relaxed": "rlx", "acquire": "acq", "release": "rel", "acq_rel": "acq_rel", "seq_cst": "sc"}
ACQUIRES, RELEASES = ("acq", "acq_rel", "sc"), ("rel", "acq_rel", "sc")
TOKEN = re.compile(r"\s*(//[^\n]*|[A-Za-z_]\w*|\d+|[=!]=|[-+*&|~(){};,=])")


class Parser:
    """Of one thread's statements."""

    def __init__(self, text):
        self.tokens = [token for token in TOKEN.findall(text) if not token.startswith("//")]
        assert "".join(self.tokens) == re.sub(r"//[^\n]*|\s", "", text), text

    def next(self, *expected):
        token = self.tokens.pop(0)
        assert not expected or token in expected, (token, expected, self.tokens[:8])
        return token

    def block(self):
        self.next("{")
        statements = []
        while self.tokens[0] != "}":
            statements.append(self.statement())
        self.next("}")
        return statements

    def statement(self):
        token = self.next()
        if token == "if":
            self.next("(")
            condition = self.expression()
            self.next(")")
            then, other = self.block(), []
            if self.tokens and self.tokens[0] == "else":
                self.next()
                other = self.block()
            return ("if", condition, then, other)
        if token == "*":  # an ordinary write
            place = self.next()
            self.next("=")
            result = ("write", place, self.expression(), "na")
        elif token.startswith("atomic_"):
            result = self.atomic(token, None)
        else:
            register = self.next() if token == "int" else token
            self.next("=")
            result = self.atomic(self.next(), register) if self.tokens[0].startswith("atomic_") else self.assignment(register)
        self.next(";")
        return result

    def assignment(self, register):
        if self.tokens[0] == "*":
            self.next()
            return ("read", register, self.next(), "na")
        return ("set", register, self.expression())

    def atomic(self, name, register):
        self.next("(")
        arguments = []
        while True:
            arguments.append(self.expression())
            if self.next(",", ")") == ")":
                break
        orders = [ORDERS[each[1][len("memory_order_"):]] for each in arguments if each[0] == "name" and each[1].startswith("memory_order_")]
        values = arguments[: len(arguments) - len(orders)]
        kind = name[len("atomic_") : -len("_explicit")] if name.endswith("_explicit") else "fence"
        if kind == "fence":
            return ("fence", orders[0])
        place = values[0][1]
        if kind == "load":
            return ("read", register, place, orders[0])
        if kind == "store":
            return ("write", place, values[1], orders[0])
        if kind == "compare_exchange_strong":
            return ("cas", register, place, values[1][1], values[2], orders)
        return ("update", register, place, kind, values[1], orders[0])

    def expression(self):
        left = self.term()
        while self.tokens[0] in ("==", "!=", "+", "-", "&", "|"):
            left = (self.next(), left, self.term())
        return left

    def term(self):
        token = self.next()
        if token == "(":
            inner = self.expression()
            self.next(")")
            return inner
        if token.isdigit():
            return ("number", int(token))
        return ("name", token)


OPERATORS = {"==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b), "+": lambda a, b: a + b, "-": lambda a, b: a - b,
             "&": lambda a, b: a & b, "|": lambda a, b: a | b}
UPDATES = {"exchange": lambda old, value: value, "fetch_or": lambda old, value: old | value, "fetch_and": lambda old, value: old & value,
           "fetch_add": lambda old, value: old + value}


def evaluate(expression, registers):
    if expression[0] == "number":
        return expression[1]
    if expression[0] == "name":
        return registers[expression[1]]
    return OPERATORS[expression[0]](evaluate(expression[1], registers), evaluate(expression[2], registers))


class Litmus:
    def __init__(self, text):
        self.name = re.match(r"C (\S+)", text)[1]
        start = re.search(r"^\{(.*)\}$", text, re.MULTILINE)
        self.initial = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+);", start[1])}
        condition = re.search(r"^~exists (.*)", text, re.MULTILINE | re.DOTALL)
        bodies = re.split(r"^P\d+ *\([^)]*\) *", text[start.end() : condition.start()], flags=re.MULTILINE)[1:]
        self.threads = [Parser(body).block() for body in bodies]
        # e.g. (1:first=0 \/ byte=2): a register of a thread, or what a place has in the end
        self.wrong = re.sub(r"(?:(\d+):)?(\w+)=(\d+)", lambda m: f"final[{(int(m[1]), m[2]) if m[1] else m[2]!r}] == {m[3]}", condition[1])
        self.wrong = compile(self.wrong.replace("\\/", "or").replace("/\\", "and").replace("\n", " ").strip(), self.name, "eval")

    def runs(self, number, domain):
        """What the thread may do if each place may have any of these values: [(events, pairs of an update, registers)]."""
        done = []

        def go(statements, events, updates, registers):
            def read(place, order, then):
                for value in sorted(domain[place]):
                    then(value, [*events, Event(number, "R", place, order, value)])

            if not statements:
                done.append((events, updates, registers))
                return
            (kind, *rest), following = statements[0], statements[1:]
            if kind == "if":
                go([*(rest[1] if evaluate(rest[0], registers) else rest[2]), *following], events, updates, registers)
            elif kind == "set":
                go(following, events, updates, {**registers, rest[0]: evaluate(rest[1], registers)})
            elif kind == "fence":
                go(following, [*events, Event(number, "F", None, rest[0], None)], updates, registers)
            elif kind == "write":
                go(following, [*events, Event(number, "W", rest[0], rest[2], evaluate(rest[1], registers))], updates, registers)
            elif kind == "read":
                read(rest[1], rest[2], lambda value, now: go(following, now, updates, {**registers, rest[0]: value}))
            elif kind == "update":
                register, place, what, operand, order = rest

                def update(value, now):
                    written = Event(number, "W", place, order, UPDATES[what](value, evaluate(operand, registers)))
                    go(following, [*now, written], [*updates, len(now) - 1], {**registers, register: value})

                read(place, order, update)
            else:
                register, place, expected, desired, (order, failure) = rest

                def swap(value, now):
                    if value != self.initial[expected]:  # a place of this thread alone
                        now[-1] = now[-1]._replace(order=failure)
                        go(following, now, updates, {**registers, register: 0})
                        return
                    written = Event(number, "W", place, order, evaluate(desired, registers))
                    go(following, [*now, written], [*updates, len(now) - 1], {**registers, register: 1})

                read(place, order, swap)

        go(self.threads[number], [], [], {})
        return done

    def all_runs(self):
        """Of each thread, with the values that are really written somewhere."""
        domain = {place: {value} for place, value in self.initial.items()}
        while True:
            runs = [self.runs(number, domain) for number in range(len(self.threads))]
            wider = {place: {value} for place, value in self.initial.items()}
            for events, _, _ in itertools.chain(*runs):
                for event in events:
                    if event.kind == "W":
                        wider[event.place].add(event.value)
            if wider == domain:
                return runs
            domain = wider

    def executions(self):
        """All candidates: (events, sb, pairs of updates, registers), of which each reads what some write wrote."""
        for chosen in itertools.product(*self.all_runs()):
            events = [Event(-1, "W", place, "na", value) for place, value in sorted(self.initial.items())]
            updates, registers, sb = [], {}, []
            for number, (own, pairs, ends) in enumerate(chosen):
                base = len(events)
                updates += [base + pair for pair in pairs]
                events += own
                registers.update({(number, name): value for name, value in ends.items()})
                sb += [(a, b) for a in range(base, len(events)) for b in range(a + 1, len(events))]
            first = len(self.initial)
            sb += [(a, b) for a in range(first) for b in range(first, len(events))]
            yield events, sb, updates, registers

    def explore(self):
        """Returns (consistent executions, their outcomes, the wrong ones among them, races)."""
        count, outcomes, wrong, races = 0, set(), set(), set()
        for events, sb, updates, registers in self.executions():
            for graph in graphs(events, sb, updates):
                if not graph.is_consistent():
                    continue
                count += 1
                final = {**{(n, name): 0 for n, thread in enumerate(self.threads) for name in names_of(thread)}, **registers, **graph.last_values()}
                outcome = tuple(sorted((str(key), value) for key, value in final.items()))
                outcomes.add(outcome)
                if eval(self.wrong, {}, {"final": final}):
                    wrong.add(outcome)
                races |= graph.races()
        return count, outcomes, wrong, races


def names_of(statements):
    for kind, *rest in statements:
        if kind == "if":
            yield from names_of(rest[1])
            yield from names_of(rest[2])
        elif kind in ("set", "read", "update", "cas"):
            yield rest[0]


def graphs(events, sb, updates):
    """With each choice of what is read and of the order of writes."""
    reads = [i for i, event in enumerate(events) if event.kind == "R"]
    sources = [[j for j, event in enumerate(events) if event.kind == "W" and event.place == events[i].place and event.value == events[i].value
                and j != i + 1] for i in reads]
    writes = collections.defaultdict(list)
    for i, event in enumerate(events):
        if event.kind == "W":
            writes[event.place].append(i)
    orders = [[(own[0], *rest) for rest in itertools.permutations(own[1:])] for own in writes.values()]
    for source in itertools.product(*sources):
        for order in itertools.product(*orders):
            yield Graph(events, sb, updates, dict(zip(reads, source)), order)


def relation(size, pairs):
    rows = [0] * size
    for a, b in pairs:
        rows[a] |= 1 << b
    return rows


def pairs_of(rows):
    for a, row in enumerate(rows):
        while row:
            low = row & -row
            yield a, low.bit_length() - 1
            row ^= low


def union(*relations):
    rows = [0] * len(relations[0])
    for each in relations:
        for i, row in enumerate(each):
            rows[i] |= row
    return rows


def compose(first, second):
    rows = [0] * len(first)
    for a, b in pairs_of(first):
        rows[a] |= second[b]
    return rows


def optional(rows):
    return [row | 1 << i for i, row in enumerate(rows)]


def closure(rows):
    rows = list(rows)
    for middle in range(len(rows)):
        for a, row in enumerate(rows):
            if row >> middle & 1:
                rows[a] |= rows[middle]
    return rows


def is_acyclic(rows):
    return not any(row >> i & 1 for i, row in enumerate(closure(rows)))


class Graph:
    """One candidate, and whether RC11 allows it."""

    def __init__(self, events, sb, updates, source, order):
        self.events, self.order = events, order
        size = len(events)
        self.sb = relation(size, sb)
        self.rf = relation(size, ((write, read) for read, write in source.items()))
        self.mo = relation(size, ((a, b) for own in order for i, a in enumerate(own) for b in own[i + 1 :]))
        self.rb = relation(size, ((read, later) for read, write in source.items() for _, later in pairs_of([self.mo[write]])))
        self.rmw = relation(size, ((i, i + 1) for i in updates))
        self.hb = self.happens_before()

    def only(self, test):
        return [1 << i if test(event) else 0 for i, event in enumerate(self.events)]

    def happens_before(self):
        fence = self.only(lambda e: e.kind == "F")
        fence_before, fence_after = optional(compose(fence, self.sb)), optional(compose(self.sb, fence))
        sequence = optional([0] * len(self.events))  # C++20: a write and the updates that read from it, one after the other
        step = closure(compose(self.rf, self.rmw))
        sequence = union(sequence, step)
        sequence = compose(self.only(lambda e: e.kind == "W" and e.order != "na"), sequence)
        sw = compose(self.only(lambda e: e.order in RELEASES and e.kind in "WF"), fence_before)
        sw = compose(compose(sw, sequence), self.rf)
        sw = compose(compose(sw, self.only(lambda e: e.kind == "R" and e.order != "na")), fence_after)
        sw = compose(sw, self.only(lambda e: e.order in ACQUIRES and e.kind in "RF"))
        return closure(union(self.sb, sw))

    def is_consistent(self):
        eco = closure(union(self.rf, self.mo, self.rb))
        coherent = not any(row >> i & 1 for i, row in enumerate(compose(self.hb, optional(eco))))
        atomic = not any(a & b for a, b in zip(self.rmw, compose(self.rb, self.mo)))
        return coherent and atomic and is_acyclic(union(self.sb, self.rf)) and is_acyclic(self.partial_sc(eco))

    def partial_sc(self, eco):
        def same_place(a, b):
            return self.events[a].place is not None and self.events[a].place == self.events[b].place

        size = len(self.events)
        elsewhere = relation(size, ((a, b) for a, b in pairs_of(self.sb) if not same_place(a, b)))
        here = relation(size, ((a, b) for a, b in pairs_of(self.hb) if same_place(a, b)))
        scb = union(self.sb, compose(compose(elsewhere, self.hb), elsewhere), here, self.mo, self.rb)
        sc = self.only(lambda e: e.order == "sc" and e.kind != "F")
        fence = self.only(lambda e: e.order == "sc" and e.kind == "F")
        maybe_hb = optional(self.hb)
        base = compose(compose(union(sc, compose(fence, maybe_hb)), scb), union(sc, compose(maybe_hb, fence)))
        between = union(self.hb, compose(compose(self.hb, eco), self.hb))
        return union(base, compose(compose(fence, between), fence))

    def last_values(self):
        return {self.events[own[-1]].place: self.events[own[-1]].value for own in self.order}

    def races(self):
        """Places where an ordinary access and another one of another thread meet, of which one writes, and neither comes first."""
        places = set()
        for a, b in itertools.combinations(range(len(self.events)), 2):
            one, other = self.events[a], self.events[b]
            if (one.place is not None and one.place == other.place and one.thread != other.thread and "W" in (one.kind, other.kind)
                    and "na" in (one.order, other.order) and not (self.hb[a] >> b | self.hb[b] >> a) & 1):
                places.add(one.place)
        return places
