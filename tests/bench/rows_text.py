"""Rows of full text: queries inside the engine and through the mount, ingest, durable writes, size on disk."""
import functools
import json
import os
import resource
import shutil
import subprocess
import time

from common import (JAVA, Driver, Failed, Row, Skip, StaticFs, directory_bytes, harness, interleave, make, median, megabytes,
                    microseconds, number, ratio, run_json, say)
from data import KINDS
import data

SCHEMA = {"dynamic": False, "indexConfigs": {"body": {"type": "text", "analyzers": ["english"]}}}
PASSES = {"t1": 32, "t2": 4, "t3": 4, "long": 1}  # a round is 20 ms and more: in less a second thread hardly arrives
NAMES = {"t1": "1 term", "t2": "2 terms", "t3": "3 terms", "long": "long (10-25 words)"}


def lucene_index(bench, source, documents):
    make("LuceneBench.class")
    return bench.cache.have(f"imdb-{documents}-lucene", lambda path: run_json(
        *JAVA, "index", path, f"{source}/docs.tsv", 2))


def fts_index(bench, source, documents):
    tool = make("fts_bench")
    return bench.cache.have(f"imdb-{documents}-fts", lambda path: run_json(tool, "index", path, f"{source}/docs.tsv"))


def xapian_index(bench, source, documents):
    tool = make("xapian_bench")
    return bench.cache.have(f"imdb-{documents}-xapian", lambda path: run_json(
        tool, "index", path, f"{source}/docs.tsv"))


def ours(bench, source):
    """A data directory with the reviews, built and merged; made once a run."""
    def build():
        d = bench.env.path("text")
        with open(bench.env.path("text-schema.json"), "w", encoding="utf-8") as f:
            json.dump(SCHEMA, f)
        bench.env.ldbfs("load", "--create", "--schema", bench.env.path("text-schema.json"), "c", f"{source}/docs.jsonl",
                        data=d, timeout=900)
        bench.env.ldbfs("build", "--full", "c", data=d, timeout=900)
        return d
    return bench.once("text", build)


def engine(bench, d):
    return Driver("engine_bench", make("engine_bench"), d, "c")


def optional(drivers, name, start, notes):
    try:
        drivers[name] = start()
    except (Skip, Failed, OSError) as e:
        notes.append(f"{name} skipped: {e}")


def same_answers(mine, theirs):
    """The share of queries whose ten scores are the same: documents of one score may stand in another order there."""
    near = lambda a, b: len(a) == len(b) and all(abs(x - y) <= 1e-6 * abs(y) for x, y in zip(a, b))
    return sum(near(a, b) for a, b in zip(mine, theirs)) / max(1, len(mine))


def some(bench, path, n):
    """A file of the first n queries."""
    out = bench.env.path(f"some-{n}-{os.path.basename(path)}")
    with open(path, encoding="utf-8") as f, open(out, "w", encoding="utf-8") as g:
        g.writelines(f.readlines()[:n])
    return out


def text(bench):
    source, facts = data.texts(bench.cache, bench.documents)
    notes, drivers = [], {}
    drivers["ldbfs"] = engine(bench, ours(bench, source))
    lucene = lambda: Driver("Lucene", *JAVA, "serve", lucene_index(bench, source, facts["documents"])[0])
    optional(drivers, "Lucene", lucene, notes)
    others = {"FTS5": lambda: Driver("FTS5", make("fts_bench"), "serve", fts_index(bench, source, facts["documents"])[0]),
              "Xapian": lambda: Driver("Xapian", make("xapian_bench"), "serve",
                                       xapian_index(bench, source, facts["documents"])[0])}
    for name, start in others.items() if not bench.quick else ():
        if name not in bench.without:
            optional(drivers, name, start, notes)
    for name, d in drivers.items():
        for kind in KINDS:
            d("specs", kind, f"{source}/{kind}.txt", *(["?format=ids"] if name == "ldbfs" else []))
            if name == "ldbfs":
                d("specs", kind + "-docs", f"{source}/{kind}.txt")
            elif name != "Lucene":
                d("specs", kind + "-some", some(bench, f"{source}/{kind}.txt", 400 if name == "Xapian" else 40))
    rows, chart = [], {}
    if "Lucene" in drivers:
        for kind in KINDS * 3:  # the JIT compiler's turn
            drivers["Lucene"]("round", kind, 1, PASSES[kind])
        agree = {k: same_answers(drivers["ldbfs"]("scores", k)["scores"], drivers["Lucene"]("scores", k)["scores"]) for k in KINDS}
        notes.append("queries whose ten best scores are Lucene's: " +
                     ", ".join(f"{k} {v:.1%}" for k, v in agree.items()))
    for kind in KINDS:
        rows += text_rows(bench, drivers, kind, chart)
    for d in drivers.values():
        d.close()
    bench.chart("text", "BM25 top 10, one thread", "queries a second", {NAMES[k]: v for k, v in chart.items()})
    return rows, notes


def text_rows(bench, drivers, kind, chart):
    mine, lucene, rows = drivers["ldbfs"], drivers.get("Lucene"), []
    for threads in (1, 2):
        sides = {"ldbfs": lambda: mine("round", kind, threads, PASSES[kind])}
        if lucene:
            sides["Lucene"] = lambda: lucene("round", kind, threads, PASSES[kind])
        got = interleave(bench.rounds, sides)
        rows.append(rate_row(f"BM25 top 10, {NAMES[kind]}, {threads} thread{'s'[:threads - 1]}", got, threads))
        if threads == 1:
            chart[kind] = {n: median(r["qps"] for r in v) for n, v in got.items()}
    if lucene:
        got = interleave(bench.rounds, {"ldbfs": lambda: mine("round", kind + "-docs", 1, 1),
                                        "Lucene": lambda: lucene("round", kind, 1, 1, "docs")})
        rows.append(rate_row(f"the same with the documents, {NAMES[kind]}, 1 thread", got, 0))
    for name in ("FTS5", "Xapian"):
        if name in drivers:  # far away: one pass over some queries says it
            chart[kind][name] = drivers[name]("round", kind + "-some", 1, 1)["qps"]
    return rows


def rate_row(work, got, judged):
    mine = got["ldbfs"]
    shown = f"{number(median(r['qps'] for r in mine))}/s, p99 {microseconds(median(r['p99_us'] for r in mine))}"
    if "Lucene" not in got:
        return Row(work, "3x Lucene", "skipped", shown)
    peer = got["Lucene"]
    qps, cpu, p99 = ratio(mine, peer, "qps"), ratio(mine, peer, "cpu_seconds", "low"), ratio(mine, peer, "p99_us", "low")
    peers = f"Lucene {number(median(r['qps'] for r in peer))}/s, p99 {microseconds(median(r['p99_us'] for r in peer))}"
    return Row(work, "3x Lucene, p99 no worse" if judged else "", peers, shown,
               f"{qps:.2f}x (CPU {cpu:.2f}x, p99 {p99:.2f}x)", qps >= 3 and p99 >= 1 if judged else None)


# ---- through the mount ----

def mount(bench):
    """The names change from round to round, so that no answer of an earlier round can be given again."""
    source, _ = data.texts(bench.cache, bench.documents)
    d, rows = ours(bench, source), []
    client = Driver("mount_bench", make("mount_bench"))
    m = bench.env.mount(data=d, name="mnt-query")
    with engine(bench, d) as e, client:
        for kind in KINDS:
            rows.append(through_mount(bench, e, client, m, f"{source}/{kind}.txt", kind, ""))
        rows += document_rows(bench, client, m, source)
        rows.append(floor_row(bench, client, ""))
        for pid in (m.pid(), client.process.pid):
            one_processor(pid)
        rows.append(through_mount(bench, e, client, m, f"{source}/{KINDS[0]}.txt", KINDS[0], ON_ONE))
        m.stop()
        rows.append(floor_row(bench, client, ON_ONE))
    return rows, []


ON_ONE = ", client and daemon on one processor"
serial = iter(range(100000))


def one_processor(pid):
    subprocess.run(["taskset", "-acp", "0", str(pid)], check=True, stdout=subprocess.DEVNULL)


def through_mount(bench, e, client, m, specs, kind, how):
    def inside():
        e("specs", kind, specs, f"?timeout={40000 + next(serial)}ms")
        return e("round", kind, 1, 1)

    def outside():
        client("specs", kind, specs, f"?timeout={40000 + next(serial)}ms")
        return client("read", m("c/query"), kind, 1, 1)

    got = interleave(bench.short_rounds, {"engine": inside, "mount": outside})
    more = median(o["p50_us"] - i["p50_us"] for o, i in zip(got["mount"], got["engine"]))
    return Row(f"through the mount, {NAMES[kind]}: open, read, close at the median{how}", "engine + 100 us",
               f"engine {microseconds(median(r['p50_us'] for r in got['engine']))}",
               microseconds(median(r["p50_us"] for r in got["mount"])), f"+{number(more)} us", more <= 100)


def floor_row(bench, client, how):
    static = StaticFs(bench, 1)
    if how:
        one_processor(static.process.pid)
    got = [client("read", static.point, KINDS[0], 1, 1) for _ in range(bench.rounds)]
    static.close()
    us = median(r["p50_us"] for r in got)
    return Row(f"a filesystem that does nothing (LOOKUP, OPEN, twice READ, RELEASE){how}",
               peers=microseconds(us))


def document_rows(bench, client, m, source):
    path = bench.env.path("names.txt")
    with open(f"{source}/docs.tsv", encoding="utf-8") as f, open(path, "w", encoding="utf-8") as out:
        for i, line in enumerate(f):
            if i % 50 == 0:
                out.write(line.split("\t", 1)[0] + ".json\n")
    client("specs", "names", path)
    got = interleave(bench.rounds, {"read": lambda: client("read", m("c/docs"), "names", 1, 1),
                                    "stat": lambda: client("stat", m("c/docs"), "names", 1, 1)})
    return [Row("open, read, close of a document", ours=microseconds(median(r["p50_us"] for r in got["read"]))),
            Row("stat of a document", ours=microseconds(median(r["p50_us"] for r in got["stat"])))]


# ---- ingest ----

def cpu_of_children():
    """Of the commands that have ended."""
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def cpu_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cp_round(bench, source, n, serial):
    """cp through the mount until close has returned (durable), then until everything is built."""
    d, name = bench.env.path(f"ingest{serial}"), f"mnt-ingest{serial}"
    m = bench.env.mount(data=d, name=name)
    m.make("c", SCHEMA)
    cpu, start = cpu_of_children(), time.perf_counter()
    subprocess.run(["cp", f"{source}/docs.jsonl", m("c/ingest/docs.jsonl")], check=True)
    durable = time.perf_counter() - start
    bench.env.ldbfs("build", "c", data=d, timeout=1200)
    built = time.perf_counter() - start
    cpu = cpu_of_children() - cpu + cpu_of(m.pid())
    status = m.status("c")
    peak = m.memory_peak()
    m.stop()
    bench.env.ldbfs("build", "--full", "c", data=d, timeout=1200)
    merged = time.perf_counter() - start
    shutil.rmtree(d)
    if status["documents"] != n:
        raise Failed(f"{status['documents']} documents after the ingest of {n}")
    return {"durable": durable, "committed": built, "merged": merged, "peak": peak, "cpu_seconds": cpu}


def ingest(bench):
    source, facts = data.texts(bench.cache, bench.documents)
    n, serial, notes = facts["documents"], iter(range(1000)), []
    tmp = bench.env.path("peer-index")

    def peer(*command):
        def one():
            shutil.rmtree(tmp, ignore_errors=True)
            for f in (tmp, tmp + "-wal", tmp + "-shm"):
                if os.path.exists(f):
                    os.unlink(f)
            return run_json(*command)
        return one
    sides = {"ldbfs": lambda: cp_round(bench, source, n, next(serial))}
    for name, target, command in (("FTS5", "fts_bench", ("index", tmp, f"{source}/docs.tsv")),
                                  ("Lucene, 1 thread", "LuceneBench.class", ("index", tmp, f"{source}/docs.tsv", 1)),
                                  ("Lucene, 2 threads", "LuceneBench.class", ("index", tmp, f"{source}/docs.tsv", 2))):
        try:
            tool = make(target)
            sides[name] = peer(*(JAVA if target.endswith("class") else [tool]), *command)
        except Skip as e:
            notes.append(f"{name} skipped: {e}")
    got = {name: [] for name in sides}
    for _ in range(bench.heavy_rounds):
        for name, side in sides.items():
            got[name].append(side())
    mine, rows = got["ldbfs"], []
    rate = lambda v, key: median(n / r[key] for r in v)
    for key, what in (("committed", "durable and built"), ("merged", "durable, built, merged into one")):
        for name in [x for x in got if x != "ldbfs"]:
            r, goal = ratio(mine, got[name], key, "low"), 2 if name == "FTS5" else 3
            judged = key == "committed"
            cpu = f" (CPU {ratio(mine, got[name], 'cpu_seconds', 'low'):.2f}x)" if judged else ""
            rows.append(Row(f"ingest of {n:,} reviews by cp until {what}, beside {name}", f"{goal}x" if judged else "",
                            f"{number(rate(got[name], key))}/s", f"{number(rate(mine, key))}/s", f"{r:.2f}x{cpu}",
                            (r >= goal if name == "FTS5" else r > goal) if judged else None))
    rows.append(Row("cp until durable", ours=f"{number(rate(mine, 'durable'))}/s, "
                    f"{number(median(facts['bytes'] / r['durable'] for r in mine) / 1e6)} MB/s"))
    rows.append(Row("memory of the daemon at most during it", ours=megabytes(median(r["peak"] for r in mine))))
    bench.chart("ingest", "Ingest until durable and built", "documents a second",
                {"reviews": {name: rate(v, "committed") for name, v in got.items()}})
    return rows, notes


# ---- durable writes ----

WRITERS = (1, 2, 4, 8)


def acknowledgement(got, how):
    more = 1 / ratio(got["ldbfs"], got["write + fdatasync"], "p50_us", "low")
    return Row(f"durable acknowledgement of one small document (open, write, close){how}", "1.5x of write + fdatasync",
               microseconds(median(r["p50_us"] for r in got["write + fdatasync"])),
               microseconds(median(r["p50_us"] for r in got["ldbfs"])), f"{more:.2f}x", more <= 1.5)


def ack_rows_on_one(bench, client, m, plain, count):
    """A filesystem that does nothing else between the request and the answer, and both without a wake-up of another processor."""
    static, rows = StaticFs(bench, 1), []
    work = {"ldbfs": lambda: client("append", m("c/ingest/upsert"), count, 1),
            "static": lambda: client("append", os.path.join(static.point, "log"), count, 1),
            "write + fdatasync": lambda: client("sync", plain, count, 1)}
    for how in ("", ON_ONE):
        if how:
            for pid in (m.pid(), client.process.pid, static.process.pid):
                one_processor(pid)
        got = interleave(bench.short_rounds, work)
        if how:
            rows.append(acknowledgement(got, how))
        rows.append(Row(f"write + fdatasync by a FUSE filesystem that does nothing else (LOOKUP, OPEN, WRITE, FLUSH, RELEASE){how}",
                        peers=microseconds(median(r["p50_us"] for r in got["static"]))))
    static.close()
    return rows


def ack(bench):
    client = Driver("mount_bench", make("mount_bench"))
    d = bench.env.path("ack")
    m = bench.env.mount("--build-age", "-1", data=d, name="mnt-ack")
    m.make("c", SCHEMA)
    plain, rows, count = bench.env.path("plain.log"), [], 400
    with client:
        work = {(name, n): functools.partial(client, do, path, count * n, n) for n in WRITERS
                for name, do, path in (("ldbfs", "append", m("c/ingest/upsert")), ("write + fdatasync", "sync", plain))}
        got = interleave(bench.short_rounds, work)
        rows.append(acknowledgement({name: got[name, 1] for name in ("ldbfs", "write + fdatasync")}, ""))
        rows += ack_rows_on_one(bench, client, m, plain, count)
    m.stop()
    lines, gain, shown = {}, {}, {}
    for name in ("ldbfs", "write + fdatasync"):
        lines[name] = [(n, median(r["qps"] for r in got[name, n])) for n in WRITERS]
        gain[name] = [ratio(got[name, n], got[name, 1], "qps") for n in WRITERS]
        shown[name] = ", ".join(f"{n}: {number(q)}/s" for n, q in lines[name]) + f"; {gain[name][-1]:.2f}x of one writer"
    mine = gain["ldbfs"]
    rows.append(Row("the same by 8 writers at once: group commit", "scales", shown["write + fdatasync"], shown["ldbfs"],
                    ", ".join(f"{g:.2f}x" for g in mine), all(b > a for a, b in zip(mine[:-1], mine[1:]))))
    bench.lines("ack", "Durable documents a second by number of writers", "writers", "documents/s", lines)
    return rows, []


# ---- size ----

def size(bench):
    source, facts = data.texts(bench.cache, bench.documents)
    d, notes, peers = ours(bench, source), [], {}
    for name, get in (("Lucene", lucene_index), ("SQLite FTS5", fts_index), ("Xapian", xapian_index)):
        if bench.quick and name == "Xapian":
            continue
        try:
            path = get(bench, source, facts["documents"])[0]
            peers[name] = directory_bytes(path) if os.path.isdir(path) else os.stat(path).st_size
        except (Skip, Failed) as e:
            notes.append(f"{name} skipped: {e}")
    with engine(bench, d) as e:
        live = e("status")["bytes"]
    smallest = min((v for k, v in peers.items() if k != "Xapian"), default=None)
    notes.append(f"size: {megabytes(live)} is what the current tree holds, "
                 f"{megabytes(directory_bytes(os.path.join(d, 'objects')))} with the history of the build")
    return [Row(f"size on disk: {facts['documents']:,} documents and their text index",
                "below Lucene's and SQLite's", ", ".join(f"{k} {megabytes(v)}" for k, v in peers.items()), megabytes(live),
                f"{live / smallest:.2f} of the smaller" if smallest else "", live < smallest if smallest else None)], notes
