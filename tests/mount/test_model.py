"""A randomised model test: several processes write, read, build, merge, snapshot, clone, restore, drop, rename and clean,
and everything that can be seen is compared with a model. Any divergence fails; LDBFS_SEED repeats a run.

Rounds. In each, worker processes work side by side on all collections through two mounts and the command line; each owns
some ids, so it knows what it must read back at once. Snapshots are taken meanwhile. When they are done the whole state
is compared; then the coordinator changes the structure (clone, restore, drop, un-drop, rename, delete snapshots, clean),
compares again, and the next round starts.
"""
import json
import multiprocessing
import os
import random
import subprocess
import time

from harness import BIN, MODE, Failure, check, equal, name_of, read

ROUNDS = {"quick": 3, "normal": 8, "long": 60}[MODE]
STEPS = {"quick": 40, "normal": 120, "long": 400}[MODE]
WORKERS = 3
IDS = 40  # each worker's, per collection
SCHEMA = {"indexConfigs": {"t": {"type": "text"}, "k": {"type": "keyword"}, "n": {"type": "long"}}}


# ---- one worker process ----
class Worker:
    """Owns the ids w<number>-*; logs every write with the times before and after, for the snapshot check."""

    def __init__(self, number, seed, points, data, environ, collections, state, out):
        self.number, self.rng, self.points, self.data = number, random.Random(seed), points, data
        self.environ, self.collections, self.state, self.out = environ, collections, state, out
        self.log = []

    def run(self):
        for step in range(STEPS):
            self.mnt = self.rng.choice(self.points)
            self.c = self.rng.choice(self.collections)
            self.mine = self.state[self.c]
            roll = self.rng.random()
            if roll < 0.45:
                self.upsert(step)
            elif roll < 0.60:
                self.update(step)
            elif roll < 0.75:
                self.delete()
            elif roll < 0.80:
                self.command_line(step)
            else:
                self.read()
        self.out.put((self.number, None, self.state, self.log))

    def id(self):
        return f"w{self.number}-{self.rng.randrange(IDS):02}"

    def doc(self, i, step):
        return {"id": i, "n": step * 1000 + self.rng.randrange(1000), "k": f"k{self.rng.randrange(5)}",
                "t": " ".join(self.rng.choice(["ash", "birch", "cedar", "elm", "fir"]) for _ in range(self.rng.randrange(1, 9)))}

    def send(self, target, text, changes):
        """changes: id -> new document or None; known once close has returned."""
        start = time.monotonic()
        fd = os.open(f"{self.mnt}/{self.c}/ingest/{target}", os.O_WRONLY | os.O_APPEND)
        try:
            data = text.encode()
            while data:
                data = data[os.write(fd, data):]
        finally:
            os.close(fd)
        self.keep(start, changes)

    def keep(self, start, changes):
        end = time.monotonic()
        for i, doc in changes.items():
            self.log.append((self.c, i, start, end, doc))
            if doc is None:
                self.mine.pop(i, None)
            else:
                self.mine[i] = doc

    def upsert(self, step):
        docs = {}
        for _ in range(self.rng.choice([1, 1, 3, 20])):
            i = self.id()
            docs[i] = self.doc(i, step)
        self.send("upsert", "".join(json.dumps(d) + "\n" for d in docs.values()), docs)

    def update(self, step):
        if not self.mine:
            return
        i = self.rng.choice(sorted(self.mine))
        patch = {"id": i, "n": step * 1000 + 7}
        if self.rng.random() < 0.5:
            patch["extra"] = {"step": step}
        self.send("update", json.dumps(patch) + "\n", {i: {**self.mine[i], **patch}})

    def delete(self):
        if not self.mine:
            return
        i = self.rng.choice(sorted(self.mine))
        if self.rng.random() < 0.5:
            start = time.monotonic()
            os.unlink(f"{self.mnt}/{self.c}/docs/{i}.json")
            self.keep(start, {i: None})
        else:
            self.send("delete", json.dumps({"id": i}) + "\n", {i: None})

    def command_line(self, step):
        i = self.id()
        doc = self.doc(i, step)
        start = time.monotonic()
        p = subprocess.run([BIN, "load", "--data", self.data, "--quiet", self.c, "-"], input=json.dumps(doc), text=True,
                           env=self.environ, stderr=subprocess.PIPE)
        check(p.returncode == 0, "load:", p.stderr)
        self.keep(start, {i: doc})

    def read(self):
        mnt = self.rng.choice(self.points)  # maybe not the one that was written through
        kind = self.rng.random()
        i = self.id()
        if kind < 0.4:
            path = f"{mnt}/{self.c}/docs/{i}.json"
            try:
                got = json.loads(read(path))
            except FileNotFoundError:
                got = None
            equal(got, self.mine.get(i), "read", path)
        elif kind < 0.8:
            word = self.rng.choice(["ash", "birch", "cedar", "elm", "fir"])
            spec = name_of(f"t:{word} AND id:w{self.number}-*?size=1000&format=ids&sort=n:asc")
            got = read(f"{mnt}/{self.c}/query/{spec}").split()
            equal(sorted(got), sorted(d["id"] for d in self.mine.values() if word in d["t"].split()), spec)
            numbers = [self.mine[d]["n"] for d in got]
            equal(numbers, sorted(numbers), "order of", spec)
        else:
            names = {n[:-5] for n in os.listdir(f"{mnt}/{self.c}/docs") if n.startswith(f"w{self.number}-")}
            equal(names, set(self.mine), "listing of", self.c)


def worker_main(number, *rest):
    worker = Worker(number, *rest)
    try:
        worker.run()
    except Exception as e:
        import traceback
        worker.out.put((number, f"worker {number}: {type(e).__name__} {e}\n{traceback.format_exc()[-1500:]}", None, None))


# ---- the coordinator ----
class Model:
    def __init__(self, env):
        self.env, self.rng = env, env.random
        self.mounts = [env.mount("--build-bytes=20000", "--build-age=100", name=n) for n in ("one", "two")]
        self.collections = {}  # name -> id -> document
        self.snapshots = {}    # name -> {snapshot name -> contents}
        self.trash = []        # (trash entry, documents, snapshots)
        self.number = 0
        self.log = []          # what was done, for the failure report
        for _ in range(2):
            self.create()

    def fresh(self, prefix):
        self.number += 1
        return f"{prefix}{self.number}"

    def m(self):
        return self.rng.choice(self.mounts)

    def note(self, *what):
        self.log.append(" ".join(map(str, what)))

    def create(self):
        name = self.fresh("c")
        self.note("create", name)
        self.m().make(name, SCHEMA)
        self.collections[name], self.snapshots[name] = {}, {}

    # ---- a round of work side by side ----
    def work(self):
        names = sorted(self.collections)
        out = multiprocessing.Queue()
        processes = []
        for w in range(WORKERS):
            state = {c: {i: d for i, d in docs.items() if i.startswith(f"w{w}-")} for c, docs in self.collections.items()}
            processes.append(multiprocessing.Process(target=worker_main, args=(
                w, self.rng.randrange(1 << 30), [m.point for m in self.mounts], self.env.data, self.env.environ, names,
                state, out)))
        before = {c: dict(docs) for c, docs in self.collections.items()}
        for p in processes:
            p.start()
        taken, results = self.meanwhile(names, out)
        for p in processes:
            p.join(60)
        problems = [r[1] for r in results if r[1]]
        check(not problems, "\n".join(problems))
        for c in names:
            self.collections[c] = {i: d for r in results for i, d in r[2][c].items()}
        logs = [entry for r in results for entry in r[3]]
        for c, name, start, end in taken:
            self.check_fuzzy_snapshot(c, name, start, end, before[c], [e for e in logs if e[0] == c])

    def meanwhile(self, names, out):
        """While the workers work: snapshots, builds, merges, shard changes, checks. Ends when all have reported."""
        taken, results = [], []
        while len(results) < WORKERS:
            c = self.rng.choice(names)
            roll = self.rng.random()
            if roll < 0.3 and len(taken) < 4:
                name = self.fresh("s")
                start = time.monotonic()
                os.mkdir(self.m()(c, "snapshots", name))
                taken.append((c, name, start, time.monotonic()))
            elif roll < 0.5:
                self.env.ldbfs("build", c)
            elif roll < 0.6:
                self.env.ldbfs("build", self.rng.choice(["--merge", "--full"]), c)
            elif roll < 0.7:
                self.env.ldbfs("build", "--shards", str(self.rng.choice([0, 1, 2, 7])), c)
            elif roll < 0.8:
                self.env.ldbfs("build", "--clean", "100000", "--grace", "60000")
            elif roll < 0.85:
                self.env.check_store()
            try:
                results.append(out.get(timeout=0.2))
            except Exception:  # noqa: queue.Empty
                pass
        return taken, sorted(results, key=lambda r: r[0])

    def check_fuzzy_snapshot(self, c, name, start, end, before, log):
        """Each document in it is in the last state acknowledged before, or in one written meanwhile."""
        contents = self.mounts[0].docs(f"{c}/snapshots/{name}")
        by_id = {}
        for _, i, s, e, doc in log:
            by_id.setdefault(i, []).append((s, e, doc))
        for i in set(by_id) | set(contents) | set(before):
            allowed = [before.get(i)]
            for s, e, doc in sorted(by_id.get(i, []), key=lambda x: x[0]):
                if e < start:
                    allowed = [doc]
                elif s < end:
                    allowed.append(doc)
            check(contents.get(i) in allowed, f"snapshot {c}/{name}, document {i}: {contents.get(i)} is none of {allowed}")
        self.snapshots[c][name] = contents

    # ---- changes of structure, nothing beside them ----
    def change(self):
        names = sorted(self.collections)
        c = self.rng.choice(names)
        kinds = ["snapshot", "clone", "restore", "rename", "drop", "undrop", "forget", "clean", "remount", "create"]
        kind = self.rng.choice(kinds)
        snaps = sorted(self.snapshots[c])
        if kind == "snapshot":
            name = self.fresh("s")
            self.note("snapshot", c, name)
            os.mkdir(self.m()(c, "snapshots", name))
            self.snapshots[c][name] = dict(self.collections[c])
        elif kind == "clone" and snaps and len(names) < 6:
            name, new = self.rng.choice(snaps), self.fresh("c")
            self.note("clone", c, name, new)
            m = self.m()
            m.sh(f"mv {c}/snapshots/{name} {new}")
            self.collections[new], self.snapshots[new] = dict(self.snapshots[c][name]), {}
        elif kind == "restore" and snaps:
            name = self.rng.choice(snaps)
            self.note("restore", c, name)
            if self.rng.random() < 0.3:
                self.env.ldbfs("restore", c, name)
            else:
                self.m().sh(f"mv -T {c}/snapshots/{name} {c}")
            self.collections[c] = dict(self.snapshots[c][name])
        elif kind == "rename":
            new = self.fresh("c")
            self.note("rename", c, new)
            self.m().sh(f"mv {c} {new}")
            self.collections[new], self.snapshots[new] = self.collections.pop(c), self.snapshots.pop(c)
        elif kind == "drop" and len(names) > 2:
            self.note("drop", c)
            m = self.m()
            known = set(os.listdir(m(".ldbfs/trash")))
            os.rmdir(m(c))
            entry = set(os.listdir(m(".ldbfs/trash"))) - known
            equal(len(entry), 1, "new entries in the trash", entry)
            self.trash.append((entry.pop(), self.collections.pop(c), self.snapshots.pop(c)))
        elif kind == "undrop" and self.trash and len(names) < 6:
            entry, docs, snapshots = self.trash.pop(self.rng.randrange(len(self.trash)))
            new = self.fresh("c")
            self.note("undrop", entry, new)
            self.m().sh(f"mv .ldbfs/trash/{entry} {new}")
            self.collections[new], self.snapshots[new] = docs, snapshots
        elif kind == "forget" and snaps:
            name = self.rng.choice(snaps)
            self.note("forget", c, name)
            os.rmdir(self.m()(c, "snapshots", name))
            del self.snapshots[c][name]
        elif kind == "clean":
            self.clean()
        elif kind == "remount":
            m = self.m()
            self.note("remount", m.point)
            if self.rng.random() < 0.5:
                m.kill()
            else:
                m.stop()
            m.start()
        elif kind == "create" and len(names) < 5:
            self.create()

    def clean(self):
        """Past the retention, with nobody at work: everything that is reachable stays readable."""
        self.note("clean")
        for m in self.mounts:
            m.stop()
        self.env.ldbfs("build")
        self.env.ldbfs("build", "--clean", "0", "--grace", "0")
        self.trash = []  # its retention is over too
        self.env.check_store()
        for m in self.mounts:
            m.start()

    # ---- comparison ----
    def verify(self):
        m = self.m()
        listed = sorted(n for n in os.listdir(m.point)
                        if os.path.isdir(m(n)) and not n.startswith(".") and not os.path.islink(m(n)))
        equal(listed, sorted(self.collections), "collections")
        for c, docs in self.collections.items():
            self.verify_one(m, c, docs)
            named = {n for n in os.listdir(m(c, "snapshots")) if n.startswith("s")}
            equal(named, set(self.snapshots[c]), "named snapshots of", c)
        for c in self.collections:
            for name in self.rng.sample(sorted(self.snapshots[c]), min(2, len(self.snapshots[c]))):
                self.verify_one(m, f"{c}/snapshots/{name}", self.snapshots[c][name])

    def verify_one(self, m, path, docs):
        equal(m.docs(path), docs, "documents of", path)
        answer = json.loads(m.ask(path, "*:*?size=10000&format=json"))
        equal((answer["total"], {d["doc"]["id"]: d["doc"] for d in answer["docs"]}), (len(docs), docs), "query of", path)
        for word in ("ash", "fir"):
            want = sorted(i for i, d in docs.items() if word in d["t"].split())
            equal(sorted(m.ids(path, f"t:{word}?size=10000")), want, word, "in", path)
        numbers = sorted((d["n"], i) for i, d in docs.items() if d["k"] == "k2")
        equal(m.ids(path, "k:k2?size=10000&sort=n:asc"), [i for _, i in numbers], "sorted in", path)


def test_model(env):
    model = Model(env)
    try:
        for _ in range(ROUNDS):
            model.note("work")
            model.work()
            model.verify()
            for _ in range(model.rng.randrange(2, 7)):
                model.change()
                model.verify()
        env.check_store()
        model.clean()
        model.verify()
    except (Failure, OSError) as e:
        raise Failure(f"{e}\ndone so far: {'; '.join(model.log[-40:])}") from e
    print(f"seed {env.seed}, {ROUNDS} rounds, {len(model.log)} changes")


test_model.timeout = 120 * ROUNDS


def test_clone_of_an_old_root_outlives_it(env):
    """Clone an old version, clean past its retention, read all of the clone."""
    m = env.mount()
    m.make("c", SCHEMA, [{"id": str(i), "t": "old", "n": i} for i in range(300)])
    env.ldbfs("build", "c")
    m.sh("mv c/snapshots/latest d")
    m.load("c", [{"id": str(i), "t": "new", "n": i} for i in range(300)])
    env.ldbfs("build", "--full", "c")
    time.sleep(0.01)
    m.stop()
    env.ldbfs("build", "--clean", "0", "--grace", "0")
    env.check_store()
    m.start()
    equal({d["t"] for d in m.docs("d").values()}, {"old"})
    equal(len(m.ids("d", "t:old?size=1000")), 300)
    equal(len(m.ids("c", "t:new?size=1000")), 300)
    m.sh("rmdir d")
    m.stop()
    env.ldbfs("build", "--clean", "0", "--grace", "0")
    env.check_store()
