"""kill -9 of the daemon at random moments: every acknowledged document is there after the remount, none twice, and
check is clean. Three threads work while it dies: ingest with overwrites and deletes, one large write, and history
(snapshots, clones, restores), with builds and merges going on in the background."""
import json
import os
import threading
import time

from harness import MODE, check, equal

KILLS = {"quick": 8, "normal": 25, "long": 200}[MODE]
SCHEMA = {"indexConfigs": {"t": {"type": "text"}, "n": {"type": "long"}}}
LARGE = 20_000
PARTS = 4  # the kills are spread over tests that run side by side


class Ingest:
    """Writes ids over and over; knows for each what must be there: the acknowledged state, or one in flight."""

    def __init__(self, rng):
        self.rng, self.acked, self.flight, self.n = rng, {}, {}, 0

    def step(self, m):
        self.n += 1
        ids = [f"i{self.rng.randrange(300):03}" for _ in range(self.rng.randrange(1, 12))]
        delete = self.rng.random() < 0.2
        state = None if delete else self.n
        self.flight = {i: state for i in ids}
        m.load("a", [{"id": i} if delete else {"id": i, "n": self.n, "t": f"text of {i} x{self.n}"} for i in ids],
               "delete" if delete else "upsert")
        self.acked.update(self.flight)
        self.flight = {}

    def verify(self, docs):
        for i in self.acked.keys() | self.flight.keys() | docs.keys():
            got = docs[i]["n"] if i in docs else None
            allowed = {self.acked.get(i)} | ({self.flight[i]} if i in self.flight else set())
            check(got in allowed, f"document {i} has state {got}, allowed {allowed}")
        self.acked = {i: d["n"] for i, d in docs.items()}
        self.flight = {}


class Large:
    """One cp of many documents; those of earlier rounds must all be there."""

    def __init__(self):
        self.round, self.complete = 0, 0

    def step(self, m):
        self.round += 1
        with open(m("l/ingest/upsert"), "w") as f:
            for i in range(LARGE):
                f.write('{"id":"r%03d-%06d","t":"large document %d"}\n' % (self.round, i, i))
        self.complete = self.round

    def verify(self, m):
        names = os.listdir(m("l/docs"))
        equal(len(names), len(set(names)), "large: listed twice")
        rounds = {}
        for n in names:
            rounds.setdefault(int(n[1:4]), []).append(int(n[5:11]))
        for r, numbers in rounds.items():
            numbers.sort()
            check(numbers == list(range(len(numbers))), "large: a hole in round", r)  # a prefix, nothing else
        equal(len(rounds.get(self.complete, [])) if self.complete else LARGE, LARGE, "large: acknowledged round")
        equal(json.loads(m.ask("l", "*:*?size=1&format=json"))["total"], len(names), "large: total")
        for r, numbers in rounds.items():
            for number in numbers[:: max(1, len(numbers) // 20)]:
                with open(m(f"l/docs/r{r:03}-{number:06}.json")) as f:
                    equal(json.load(f)["id"], f"r{r:03}-{number:06}", "large: document")


class History:
    """Snapshots, clones and restores of h, whose documents all carry the same generation n."""

    def __init__(self, rng):
        self.rng, self.allowed, self.snaps, self.clones, self.i = rng, {0}, {}, {}, 0
        self.flight = None

    def step(self, m):
        self.i += 1
        kind = self.rng.choice(["write", "write", "snapshot", "clone", "restore"])
        current = next(iter(self.allowed)) if len(self.allowed) == 1 else None
        if kind == "write" or not self.snaps or current is None:
            self.flight = ("write", None)
            self.allowed = self.allowed | {self.i}
            m.load("h", [{"id": f"h{k}", "n": self.i, "t": "history"} for k in range(20)])
            self.allowed = {self.i}
        elif kind == "snapshot":
            self.flight = ("snapshot", f"s{self.i}")
            os.mkdir(m(f"h/snapshots/s{self.i}"))
            self.snaps[f"s{self.i}"] = current
        else:
            name = self.rng.choice(sorted(self.snaps))
            self.flight = (kind, name)
            if kind == "clone":
                os.rename(m(f"h/snapshots/{name}"), m(f"k{self.i}"))
                self.clones[f"k{self.i}"] = self.snaps[name]
            else:
                self.allowed = self.allowed | {self.snaps[name]}
                os.rename(m(f"h/snapshots/{name}"), m("h"))
                self.allowed = {self.snaps[name]}
        self.flight = None

    def verify(self, m):
        docs = m.docs("h")
        equal(len(docs), 20, "history: documents")
        states = {d["n"] for d in docs.values()}
        if len(states) > 1:  # a write in flight is several records
            check(self.flight and self.flight[0] == "write", "history: mixed states", states, self.flight)
        check(states <= self.allowed, "history: states", states, "allowed", self.allowed, "in flight", self.flight)
        m.load("h", [{"id": f"h{k}", "n": max(states), "t": "history"} for k in range(20)])
        self.allowed, self.flight = {max(states)}, None
        for name, n in self.snaps.items():
            equal({json.loads(l)["doc"]["n"] for l in m.ask(f"h/snapshots/{name}", "*:*?size=30").splitlines()}, {n},
                  "snapshot", name)
        for name, n in self.clones.items():
            equal({json.loads(l)["doc"]["n"] for l in m.ask(name, "*:*?size=30").splitlines()}, {n}, "clone", name)
        for name in sorted(self.clones)[:-3]:
            os.rmdir(m(name))
            del self.clones[name]


def until_dead(step, m, stop, problems):
    """Works until the daemon dies below it; an error before that is a problem."""
    try:
        while True:
            step(m)
    except OSError as e:
        if not stop.is_set():
            problems.append(f"{step.__self__.__class__.__name__}: {e} before the kill")
    except Exception as e:  # noqa: any other is a bug of the test or a wrong answer
        problems.append(repr(e))


def run_kills(env, kills):
    rng = env.random
    m = env.mount("--build-bytes=30000", "--build-age=40")
    for c in "alh":
        m.make(c, SCHEMA)
    m.load("h", [{"id": f"h{k}", "n": 0, "t": "history"} for k in range(20)])
    ingest, large, history = Ingest(rng), Large(), History(rng)
    for kill in range(kills):
        stop, problems = threading.Event(), []
        threads = [threading.Thread(target=until_dead, args=(s, m, stop, problems))
                   for s in (ingest.step, large.step, history.step)]
        for t in threads:
            t.start()
        time.sleep(rng.random() ** 2 * 1.5)
        stop.set()
        m.kill()
        for t in threads:
            t.join(60)
            check(not t.is_alive(), "a writer hangs after kill", kill)
        equal(problems, [], "kill", kill)
        m.start()
        ingest.verify(m.docs("a"))
        total = json.loads(m.ask("a", "*:*?size=1&format=json"))["total"]
        equal(total, len(ingest.acked), "total after kill", kill)
        large.verify(m)
        history.verify(m)
        m.load("a", [{"id": "after", "n": -1}])  # the log takes writes again
        m.load("a", [{"id": "after"}], "delete")
        if kill % 5 == 0 or kill == kills - 1:
            env.check_store()
    m.stop()
    env.check_store()
    print(f"{kills} kills, {ingest.n} writes, {large.round} large writes, {history.i} steps of history")


def part(number):
    def run(env):
        env.random.seed(env.seed + number)
        run_kills(env, KILLS // PARTS + (number < KILLS % PARTS))
    run.timeout = 120 + 10 * KILLS
    return run


TESTS = [(f"kills-{i + 1}-of-{PARTS}", part(i)) for i in range(PARTS)]


def test_kill_during_large_write(env):
    """In the middle of one cp: the lines that were acknowledged by an earlier close stay, the rest is a prefix."""
    m = env.mount("--build-age=-1")
    m.make("l", SCHEMA)
    large = Large()
    for _ in range(3):
        stop, problems = threading.Event(), []
        t = threading.Thread(target=until_dead, args=(large.step, m, stop, problems))
        t.start()
        time.sleep(0.02 + env.random.random() * 0.3)
        stop.set()
        m.kill()
        t.join(60)
        equal(problems, [])
        m.start()
        large.verify(m)
    env.ldbfs("build", "l")
    large.verify(m)
    env.check_store()
