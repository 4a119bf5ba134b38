#!/usr/bin/env python3
"""What it costs, beside SQLite FTS5 on the same data in the same run. Prints a table (Markdown).

  bench.py [--quick] [--runs N] [--binary FILE] [--docs N] [--out FILE]

Data: the 100,000 film reviews of the test data where they are (imdb.jsonl.zst), else generated text. One field `body`,
english here, porter there; top 10 of each query. Medians over the runs; ingest is timed until the data is durable and a
query finds the last document.
"""
import argparse
import json
import os
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../mount"), os.path.join(HERE, "../quality")]
import harness  # noqa: E402
import ndcg  # noqa: E402

SCHEMA = {"dynamic": False, "indexConfigs": {"body": {"type": "text", "analyzers": ["english"]}}}


def load_corpus(limit):
    """Documents (id, body) and queries by kind."""
    try:
        source = harness.data_file("imdb.jsonl.zst")
        queries = harness.data_file("imdb-bench-queries.tsv")
    except harness.Skip:
        return made_up(limit or 20000)
    docs = [(d["id"], d["body"]) for d in ndcg.documents(harness.read_jsonl(source))][:limit or None]
    kinds = {}
    with open(queries, encoding="utf-8") as f:
        for line in f:
            _, kind, text = line.rstrip("\n").split("\t")
            words = re.findall(r"[a-z0-9]+", text.lower())
            if words:
                kinds.setdefault(kind, []).append(" ".join(words))
    return docs, kinds, "film reviews"


def made_up(n):
    rng = random.Random(5)
    words = [f"w{i}" for i in range(30000)]
    weights = [1 / (i + 2) for i in range(len(words))]
    docs = [(f"d{i:07}", " ".join(rng.choices(words, weights, k=rng.randrange(20, 300)))) for i in range(n)]
    kinds = {k: [" ".join(rng.choices(words[:3000], k=m)) for _ in range(200)] for k, m in
             (("t1", 1), ("t2", 2), ("t3", 3), ("long", 15))}
    return docs, kinds, "generated text"


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p))]


def directory_bytes(path):
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(path) for f in files)


class Peer:
    """SQLite FTS5, porter stemming, bm25 order, as it is meant to be used: one transaction, WAL, then optimize."""

    def __init__(self, path):
        self.path = path
        self.db = sqlite3.connect(path)

    def ingest(self, docs):
        start = time.perf_counter()
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("create virtual table t using fts5(id unindexed, body, tokenize='porter unicode61')")
        with self.db:
            self.db.executemany("insert into t values(?,?)", docs)
        self.db.execute("pragma wal_checkpoint(truncate)")
        seconds = time.perf_counter() - start
        with self.db:
            self.db.execute("insert into t(t) values('optimize')")
        return seconds

    def query(self, text):
        match = " OR ".join(f'"{w}"' for w in text.split())
        return self.db.execute("select id, body from t where t match ? order by rank limit 10", (match,)).fetchall()


def time_queries(ask, queries):
    for q in queries[:20]:
        ask(q)
    times = []
    for q in queries:
        start = time.perf_counter()
        ask(q)
        times.append((time.perf_counter() - start) * 1000)
    return times


def run_peer(env, docs, kinds, run):
    peer = Peer(env.path(f"peer{run}.db"))
    out = {"seconds": peer.ingest(docs), "latency": {k: time_queries(peer.query, q) for k, q in kinds.items()}}
    out["bytes"] = os.stat(peer.path).st_size
    peer.db.close()
    return out


def mount_query(m):
    folder = m("c/query")

    def ask(text):
        fd = os.open(f"{folder}/{text}", os.O_RDONLY)
        try:
            while os.read(fd, 1 << 20):
                pass
        finally:
            os.close(fd)
    return ask


def engine_latency(env, data, queries):
    """Median time inside the engine of each query, warm: `ldbfs query --repeat`."""
    out = []
    for q in queries:
        p = env.ldbfs("query", "--repeat", "30", "c", q, data=data, status=None)
        out.append(json.loads(p.stderr.splitlines()[-1])["p50_us"] / 1000)
    return out


def file_costs(m, ids):
    """Open, read and close of a document and of a status file, in microseconds."""
    times = {"document": [], "stat of a document": []}
    for i in ids:
        path = m("c/docs", i + ".json")
        start = time.perf_counter()
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 1 << 20)
        os.close(fd)
        times["document"].append((time.perf_counter() - start) * 1e6)
        start = time.perf_counter()
        os.stat(path)
        times["stat of a document"].append((time.perf_counter() - start) * 1e6)
    return {k: statistics.median(v) for k, v in times.items()}


def run_ours(env, docs, kinds, lines, run, sample):
    data, out = env.path(f"data{run}"), {}
    m = env.mount(data=data, name=f"mnt{run}")
    out["memory_idle"] = m.memory_now()
    m.make("c", SCHEMA)
    start = time.perf_counter()
    shutil.copyfile(lines, m("c/ingest/docs.jsonl"))  # close has returned: durable
    out["durable"] = time.perf_counter() - start
    with open(m("c/query/*:*?size=1&format=json")) as f:
        found = json.load(f)["total"]
    out["searchable"] = time.perf_counter() - start
    harness.equal(found, len(docs), "documents")
    env.ldbfs("build", "--full", "c", data=data, timeout=600)
    out["built"] = time.perf_counter() - start
    out["memory_peak"] = m.memory_peak()
    out["latency"] = {k: time_queries(mount_query(m), q) for k, q in kinds.items()}
    out["files"] = file_costs(m, sample)
    out["memory_after"] = m.memory_now()
    m.stop()
    out["engine"] = {k: engine_latency(env, data, q[:40]) for k, q in kinds.items()}
    out["bytes"] = directory_bytes(os.path.join(data, "objects"))
    return out


def median(runs, *keys):
    values = []
    for r in runs:
        for k in keys:
            r = r[k]
        values.append(r)
    return statistics.median(values)


def table(docs, kinds, source, ours, peers, size):
    mb, n = size / 1e6, len(docs)
    rows = []

    def row(what, our, peer=None, unit="", better_high=False):
        ratio = ""
        if peer:
            ratio = f"{our / peer:.2f}x" if better_high else f"{peer / our:.2f}x"
        rows.append((what, f"{our:,.3g} {unit}" if our < 1000 else f"{our:,.0f} {unit}",
                     "" if peer is None else (f"{peer:,.3g} {unit}" if peer < 1000 else f"{peer:,.0f} {unit}"), ratio))

    peer_s, durable, searchable = median(peers, "seconds"), median(ours, "durable"), median(ours, "searchable")
    row("cp to durable, documents/s", n / durable, n / peer_s, better_high=True)
    row("cp to durable and searchable, documents/s", n / searchable, n / peer_s, better_high=True)
    row("cp to durable and searchable", mb / searchable, mb / peer_s, "MB/s", True)
    row("cp to built and merged, documents/s", n / median(ours, "built"), n / peer_s, better_high=True)
    for kind in kinds:
        for p, name in ((0.5, "p50"), (0.99, "p99")):
            row(f"query {kind} through the mount, {name}", statistics.median(percentile(o["latency"][kind], p) for o in ours),
                statistics.median(percentile(o["latency"][kind], p) for o in peers), "ms")
        row(f"query {kind} inside the engine, p50", statistics.median(percentile(o["engine"][kind], 0.5) for o in ours),
            statistics.median(percentile(o["latency"][kind], 0.5) for o in peers), "ms")
    for what in ours[0]["files"]:
        row({"document": "open, read, close of a document"}.get(what, what), median(ours, "files", what), unit="us")
    row("index on disk", median(ours, "bytes") / 1e6, median(peers, "bytes") / 1e6, "MB")
    row("daemon memory before any data", median(ours, "memory_idle") / 1e6, unit="MB")
    row("daemon memory at rest afterwards", median(ours, "memory_after") / 1e6, unit="MB")
    row("daemon memory peak (mapped index included)", median(ours, "memory_peak") / 1e6, unit="MB")
    out = [f"{n:,} {source}, {mb:.0f} MB of JSON, {len(ours)} run(s), {os.cpu_count()} cores, SQLite {sqlite3.sqlite_version}",
           "", "| what | ldbfs | SQLite FTS5 | times better |", "|---|---:|---:|---:|"]
    out += [f"| {a} | {b.strip()} | {c.strip()} | {d} |" for a, b, c, d in rows]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 documents, one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--docs", type=int, default=0)
    parser.add_argument("--binary")
    parser.add_argument("--out")
    args = parser.parse_args()
    if args.binary:
        harness.BIN = os.path.abspath(args.binary)
    docs, kinds, source = load_corpus(args.docs or (10000 if args.quick else 0))
    if args.quick:
        kinds = {k: q[:50] for k, q in kinds.items()}
    env, failed = harness.Env("bench"), True
    try:
        lines = harness.write_lines(env.path("docs.jsonl"), ({"id": i, "body": b} for i, b in docs))
        rng = random.Random(3)
        sample = [rng.choice(docs)[0] for _ in range(2000)]
        ours, peers = [], []
        for run in range(1 if args.quick else args.runs):  # in turns: what else the machine does meets both
            peers.append(run_peer(env, docs, kinds, run))
            ours.append(run_ours(env, docs, kinds, lines, run, sample))
        text = table(docs, kinds, source, ours, peers, os.stat(lines).st_size)
        print(text)
        if args.out:
            with open(args.out, "w") as f:
                f.write(text)
        failed = False
    finally:
        env.close(failed)


if __name__ == "__main__":
    try:
        main()
    except (harness.Failure, subprocess.SubprocessError) as e:
        sys.exit(f"bench: {e}")
