"""Rows of vectors: neighbours at a recall, with filters, and the exact scan."""
import array
import json
import mmap
import os

from common import Driver, Failed, Row, Skip, interleave, make, median, megabytes, microseconds, number, ratio, run_json
import data

K = 10
PASSES = 4  # of filtered queries, which are microseconds: a round is some milliseconds
TARGETS = (0.965, 0.99)
EFS = (*range(10, 60), *range(60, 120, 2), *range(120, 240, 5), *range(240, 601, 20))  # fine: no side pays for a step
RECALLS = (*(x / 1000 for x in range(900, 999, 3)), 0.999)
FILTERS = (("random 1 %", 1, "r1", True), ("random 0.1 %", 2, "r01", True), ("correlated 1 %", 4, "c1", False),
           ("correlated 0.1 %", 8, "c01", False))
STRUCTURES = ("20", "21", "22", "23")  # regions: norms, documents, clusters, codes (docs/FORMAT.md)
NAMES = {"fashion": "Fashion-MNIST", "gaussian": "synthetic"}


def ints(path, n):
    out = array.array("i")
    with open(path, "rb") as f:
        out.frombytes(f.read(n * K * 4))
    return out


def recall_of(hits, exact, n):
    found = 0
    for q in range(n):
        wanted = set(x for x in exact[q * K:q * K + K] if x >= 0)
        found += len(wanted.intersection(hits[q * K:q * K + K])) if wanted else 0
    return found / sum(1 for x in exact[:n * K] if x >= 0)


class Side:
    """One engine on one set of vectors: recall of a setting, a round with it."""

    def __init__(self, bench, name, vectors, driver, n_queries):
        self.name, self.v, self.driver, self.n = name, vectors, driver, n_queries
        self.out = bench.env.path(f"hits-{name.split()[0]}.i32")
        self.exact = ints(vectors.exact, n_queries)
        self.known = {}

    def recall(self, setting):
        if setting not in self.known:
            self.write(setting)
            self.known[setting] = recall_of(ints(self.out, self.n), self.exact, self.n)
        return self.known[setting]

    def cheapest(self, settings, target):
        """The first setting that reaches the target; settings ascend."""
        lo, hi = 0, len(settings) - 1
        if self.recall(settings[hi]) < target:
            return None
        while lo < hi:
            mid = (lo + hi) // 2
            if self.recall(settings[mid]) >= target:
                hi = mid
            else:
                lo = mid + 1
        return settings[lo]


class Hnswlib(Side):
    settings = EFS

    def write(self, ef):
        self.driver("hits", ef, self.out, self.n)

    def round(self, ef, threads=1, passes=1):
        return self.driver("round", threads, passes, ef, self.n)


class Faiss(Side):
    settings = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

    def write(self, parameter):
        self.driver("hits", parameter, self.out, self.n)

    def round(self, parameter, threads=1, passes=1):
        return self.driver("round", threads, passes, parameter, self.n)


class Ldbfs(Side):
    settings = RECALLS

    def choose(self, setting, query="*:*"):
        knob = f"&recall={setting}" if setting is not None else ""
        self.driver("vectors", "v", self.v.query, self.v.dim, self.n, f"{query}?near=0&size={K}&format=ids{knob}")

    def write(self, setting):
        self.choose(setting)
        self.driver("hits", "v", self.out)

    def round(self, setting, threads=1, passes=1):
        self.choose(setting)
        return self.driver("round", "v", threads, passes)

    def can_approximate(self):
        try:
            self.choose(0.95)
            return True
        except Failed:
            return False


def hnsw_index(bench, v):
    tool = make("hnsw_bench")
    return bench.cache.have(f"{os.path.basename(v.path)}-hnsw", lambda path: run_json(
        tool, "build", v.base, v.dim, path, 1 if v.n <= 100000 else 2), renew=True)


def faiss_index(bench, v, kind):
    tool = make("faiss_bench")
    return bench.cache.have(f"{os.path.basename(v.path)}-faiss-{kind.split(',')[0].lower()}", lambda path: run_json(
        tool, "build", v.base, v.dim, path, kind))


def ours(bench, v):
    """(data directory, facts of its making): documents {"id","v","tags"}, built and merged; made once a run."""
    def build():
        d, schema = bench.env.path(f"vec-{os.path.basename(v.path)}"), bench.env.path("vec-schema.json")
        with open(schema, "w", encoding="utf-8") as f:
            json.dump({"dynamic": False, "indexConfigs": {
                "tags": {"type": "keyword"}, "v": {"type": "vector", "dimensions": v.dim, "similarity": "euclidean"}}}, f)
        with Driver("engine_bench", make("engine_bench"), d, "c") as e:
            e("create", schema)
            facts = e("load", v.base, v.dim, v.tags)
            facts["bytes"] = e("status")["bytes"]
            facts["regions"] = e("regions")
        return d, facts
    return bench.once(f"vec-{v.path}", build)


def engine(bench, v):
    return Driver("engine_bench", make("engine_bench"), ours(bench, v)[0], "c")


def hnsw_driver(bench, v, index=True):
    return Driver("hnsw_bench", make("hnsw_bench"), "serve", v.base, v.dim, v.query,
                  *([hnsw_index(bench, v)[0]] if index else []))


def fashion_set(bench):
    return data.fashion(bench.cache, bench.images)


def million(bench):
    return data.gaussian(bench.cache, bench.vectors)


def knn(bench):
    return neighbours(bench, fashion_set(bench), ("IVF256,Flat", "HNSW16"))


def knn1m(bench):
    return neighbours(bench, million(bench), ("IVF1024,Flat",) if bench.vectors >= 1000000 else ("IVF256,Flat",))


def title(v):
    return f"{NAMES[os.path.basename(v.path).split('-')[0]]} {v.n:,} x {v.dim}"


def neighbours(bench, v, faiss_kinds):
    n, rows, notes, curves = min(2000, v.n_queries), [], [], {}
    mine = Ldbfs(bench, "ldbfs", v, engine(bench, v), n)
    approximate = mine.can_approximate()
    if not approximate:
        mine.n = 100  # whole scans
        notes.append("this build has no approximate search: its exact one is measured")
    peer = None
    try:
        peer = Hnswlib(bench, "hnswlib", v, hnsw_driver(bench, v), n)
    except (Skip, Failed) as e:
        notes.append(f"hnswlib skipped: {e}")
    for target in TARGETS:
        rows.append(at_recall(bench, v, mine, peer, target, approximate))
    if approximate:
        curves["ldbfs"] = curve(mine, RECALLS[::4])
    if peer:
        curves["hnswlib"] = curve(peer, (10, 12, 14, 17, 20, 24, 28, 34, 40, 50, 64, 80, 100, 130, 160, 200, 240))
        rows += build_rows(bench, v)
    mine.driver.close()
    if peer:
        peer.driver.close()
    for kind in faiss_kinds if not bench.quick and "FAISS" not in bench.without else ():
        rows += faiss_rows(bench, v, kind, n, curves, notes)
    bench.lines(os.path.basename(v.path), f"Top 10 of {title(v)}, one thread", "recall@10", "us a query (CPU)",
                {k: [p for p in c if 0.8 <= p[0] < 0.99995] for k, c in curves.items()}, log=True)
    return rows, notes


def curve(side, settings):
    """(recall, us of processor time a query) of each setting, one round each: a picture, not a verdict."""
    return sorted((side.recall(s), 1e6 * r["cpu_seconds"] / r["n"]) for s, r in ((s, side.round(s)) for s in settings))


def at_recall(bench, v, mine, peer, target, approximate):
    work, goal = f"kNN top 10, {title(v)}, recall@10 >= {target}", "1.5x hnswlib"
    setting = mine.cheapest(RECALLS, target) if approximate else None
    passes = max(1, int(0.5 / max(1e-9, mine.round(setting)["seconds"])))
    sides = {"ldbfs": lambda: mine.round(setting, 1, passes)}
    if peer:
        ef = peer.cheapest(EFS, target)
        sides["hnswlib"] = lambda: peer.round(ef, 1, 3)
    got = interleave(bench.rounds, sides)
    shown = f"{microseconds(median(r['mean_us'] for r in got['ldbfs']))} at {mine.recall(setting):.4f}"
    if setting is None:
        shown += ", exact"
    if not peer:
        return Row(work, goal, "skipped", shown)
    r, cpu = ratio(got["ldbfs"], got["hnswlib"], "qps"), median(
        (p["cpu_seconds"] / p["n"]) / (o["cpu_seconds"] / o["n"]) for o, p in zip(got["ldbfs"], got["hnswlib"]))
    return Row(work, goal, f"hnswlib {microseconds(median(x['mean_us'] for x in got['hnswlib']))} at {peer.recall(ef):.4f}",
               shown, f"{r:.2f}x (CPU {cpu:.2f}x)", r >= 1.5)


def build_rows(bench, v):
    _, theirs, made_now = hnsw_index(bench, v)
    _, facts = ours(bench, v)
    seconds, threads = facts["built"] + facts["merged"], theirs["threads"]
    remembered = "" if made_now else ", remembered"
    r, cpu = theirs["seconds"] / seconds, theirs["cpu_seconds"] / facts["cpu_seconds"]
    raw = v.n * v.dim * 4
    extra = sum(facts["regions"].get(k, 0) for k in STRUCTURES) / raw
    return [Row(f"vectors built, {title(v)}", "a third of hnswlib's time",
                f"hnswlib {number(theirs['seconds'])} s, {threads} thread{'s'[:threads - 1]}{remembered}",
                f"{number(seconds)} s: build {number(facts['built'])}, merge {number(facts['merged'])}", f"{r:.2f}x (CPU {cpu:.2f}x)",
                (r if made_now else cpu) >= 3),
            Row(f"search structures beside the raw vectors, {title(v)}", "a fifth of them",
                f"hnswlib {theirs['graph_bytes'] / raw:.2f}",
                f"{megabytes(extra * raw)} beside {megabytes(raw)}; with documents, ids, tags {megabytes(facts['bytes'])}",
                f"{extra:.2f}", extra <= 0.2)]


def faiss_rows(bench, v, kind, n, curves, notes):
    try:
        path, facts, _ = faiss_index(bench, v, kind)
        with Driver("faiss_bench", make("faiss_bench"), "serve", v.dim, v.query, path) as d:
            n = min(n, 500)
            side = Faiss(bench, "faiss", v, d, n)
            name = f"FAISS {kind}"
            curves[name] = curve(side, [s for s in Faiss.settings if s >= (16 if kind.startswith("HNSW") else 1)])
            best = next((c for c in curves[name] if c[0] >= TARGETS[0]), curves[name][-1])
            return [Row(f"for comparison: {name}, {title(v)}", peers=f"{microseconds(best[1])} at {best[0]:.4f}, built in "
                        f"{number(facts['seconds'])} s (the distribution's library has no AVX)")]
    except (Skip, Failed) as e:
        notes.append(f"FAISS {kind} skipped: {e}")
        return []


# ---- filters ----

def filtered(bench):
    sets = [fashion_set(bench)] + ([] if bench.quick else [million(bench)])
    rows, notes = [], []
    for v in sets:
        r, n = filtered_rows(bench, v)
        rows += r
        notes += n
    return rows, notes


def filtered_rows(bench, v):
    notes, rows, n = [], [], min(1000, v.n_queries)
    mine = Ldbfs(bench, "ldbfs", v, engine(bench, v), n)
    try:
        peer = hnsw_driver(bench, v)
    except (Skip, Failed) as e:
        notes.append(f"hnswlib skipped: {e}")
        mine.driver.close()
        return rows, notes
    for name, mask, tag, graph in FILTERS:
        rows.append(filter_row(bench, v, mine, peer, n, name, mask, tag, graph))
    mine.driver.close()
    peer.close()
    return rows, notes


def filter_row(bench, v, mine, peer, n, name, mask, tag, graph):
    allowed = peer("filter", v.tags, mask)["n"]
    exact_file = bench.env.path("filtered-exact.i32")
    peer("hits_scan", exact_file, n)
    exact = ints(exact_file, n)
    mine.choose(None, f"tags:{tag}")
    mine.driver("hits", "v", mine.out)
    recall = recall_of(ints(mine.out, n), exact, n)
    got = interleave(bench.short_rounds, {"ldbfs": lambda: mine.driver("round", "v", 1, PASSES),
                                          "scan": lambda: peer("round_scan", 1, PASSES, n)})
    r = 1 / ratio(got["ldbfs"], got["scan"], "mean_us", "low")
    text = f"scan {microseconds(median(x['mean_us'] for x in got['scan']))}"
    if graph:
        few = min(n, 100)
        one = peer("round_filtered", 1, 1, 100, few)
        hits = bench.env.path("filtered-graph.i32")
        peer("hits_filtered", 100, hits, few)
        text += f"; hnswlib ef 100 {microseconds(one['mean_us'])} at {recall_of(ints(hits, few), exact, few):.3f}"
    return Row(f"kNN top 10 of {title(v)}, filter {name} ({allowed:,} rows)", "recall 1.0, 1.5x of scanning the allowed",
               text, f"{microseconds(median(x['mean_us'] for x in got['ldbfs']))} at {recall:.4f}", f"{r:.2f}x",
               recall >= 0.99999 and r <= 1.5)


# ---- exact scan ----

def scan(bench):
    sets = [fashion_set(bench)] + ([] if bench.quick else [million(bench)])
    return [scan_row(bench, v) for v in sets], []


def stored_at(bench, v):
    """Where the engine has the rows: (file, offset). Two copies of the same bytes are not equally fast: it depends on
    how large the pages are that the system keeps them in."""
    with open(v.base, "rb") as f:
        start = f.read(4096)
    for path, _, names in os.walk(os.path.join(ours(bench, v)[0], "objects", "data")):
        for name in (os.path.join(path, n) for n in names):
            if os.path.getsize(name) < v.n * v.dim * 4:
                continue
            with open(name, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
                at = m.find(start)
                if at >= 0:
                    return name, at
    raise Failed("the rows are not stored side by side in one file")


def scan_row(bench, v):
    n, size = 20, v.n * v.dim * 4
    mine = Ldbfs(bench, "ldbfs", v, engine(bench, v), n)
    plain = hnsw_driver(bench, v, index=False)
    where = stored_at(bench, v)
    exact = 1 if mine.can_approximate() else None
    got = interleave(bench.short_rounds, {"ldbfs": lambda: mine.round(exact), "sum": lambda: plain("sum", 20, *where)})
    recall = mine.recall(exact)
    mine.driver.close()
    plain.close()
    r = median(size / o["p50_us"] / (size / p["p50_us"]) for o, p in zip(got["ldbfs"], got["sum"]))
    speed = lambda x: f"{number(size / median(y['p50_us'] for y in x) / 1e3)} GB/s"
    return Row(f"exact scan of {title(v)}, one thread", "90 % of a plain sum of the bytes", speed(got["sum"]),
               f"{speed(got['ldbfs'])}, recall {recall:.4f}", f"{r:.0%}", r >= 0.9)
