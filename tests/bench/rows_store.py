"""Rows of big collections: listing a million documents, growth, cold queries."""
import os
import subprocess
import time

from common import Driver, Failed, Row, StaticFs, harness, interleave, make, median, megabytes, microseconds, number, ratio, run_json
from rows_text import SCHEMA, engine
import data
import json


def load(bench, name, n):
    """A collection of n short documents, built and merged; made once a run. (data directory, facts)"""
    source, facts = data.pieces(bench.cache, n)

    def build():
        d, schema = bench.env.path(name), bench.env.path("pieces-schema.json")
        with open(schema, "w", encoding="utf-8") as f:
            json.dump(SCHEMA, f)
        start = time.perf_counter()
        bench.env.ldbfs("load", "--create", "--schema", schema, "c", f"{source}/docs.jsonl", data=d, timeout=1800)
        bench.env.ldbfs("build", "c", data=d, timeout=1800)
        seconds = time.perf_counter() - start
        bench.env.ldbfs("build", "--full", "c", data=d, timeout=1800)
        return d, {"rate": n / seconds, "mb_rate": facts["bytes"] / seconds / 1e6}
    return bench.once(name, build)


# ---- listing ----

def timed(command, path, wanted):
    start = time.perf_counter()
    out = subprocess.run(command, shell=True, cwd=path, stdout=subprocess.PIPE, check=True, text=True).stdout
    seconds = time.perf_counter() - start
    if abs(int(out) - wanted) > 8:  # ., .. and whatever else the directory has
        raise Failed(f"{command}: {out.strip()} entries, expected {wanted}")
    return {"seconds": seconds}


def listing(bench):
    n = 100000 if bench.quick else 1000000
    d, _ = load(bench, f"pieces-{n}", n)
    static, m, rows = StaticFs(bench, n), bench.env.mount(data=d, name="mnt-list"), []
    try:
        for command in ("ls -f | wc -l", "find . -type f | wc -l"):
            got = interleave(bench.heavy_rounds, {"ldbfs": lambda: timed(command, m("c/docs"), n),
                                                  "static": lambda: timed(command, static.point, n)})
            more = 1 / ratio(got["ldbfs"], got["static"], "seconds", "low")
            rows.append(Row(f"{command.split(' |')[0]} of {n:,} documents", "2x of a static FUSE directory",
                            f"{number(median(r['seconds'] for r in got['static']))} s",
                            f"{number(median(r['seconds'] for r in got['ldbfs']))} s", f"{more:.2f}x", more <= 2))
        rows.append(Row(f"daemon memory at rest with {n:,} documents listed", ours=megabytes(m.memory_now())))
    finally:
        m.stop()
        static.close()
    return rows, []


# ---- growth ----

def growth(bench):
    sizes = (10000, 30000, 100000) if bench.quick else (10000, 100000, 1000000)
    source, _ = data.texts(bench.cache, bench.documents)
    points, rows, drivers = {}, [], {}
    for n in sizes:
        d, facts = load(bench, f"pieces-{n}", n)
        drivers[n] = engine(bench, d)
        drivers[n]("specs", "t2", f"{source}/t2.txt", "?format=ids")
        points[n] = facts
    got = interleave(bench.rounds, {n: (lambda e: lambda: e("round", "t2", 1, 2))(e) for n, e in drivers.items()})
    for e in drivers.values():
        e.close()
    for n in sizes:
        m = bench.env.mount(data=load(bench, f"pieces-{n}", n)[0], name=f"mnt-growth{n}")
        harness.read(m("c/query", "film?format=count"))
        points[n].update(memory=m.memory_now(), us=median(r["mean_us"] for r in got[n]))
        m.stop()
    factor = sizes[-1] / sizes[0]
    first, last = points[sizes[0]], points[sizes[-1]]
    each = lambda f: ", ".join(f(points[n]) for n in sizes)
    rows.append(Row(f"growth, {sizes[0]:,} to {sizes[-1]:,} documents: time of a query of 2 terms", "sub-linear", "",
                    each(lambda p: microseconds(p["us"])), f"{last['us'] / first['us']:.1f}x for {factor:.0f}x",
                    last["us"] / first["us"] < factor))
    middle = points[sizes[-2]]
    flat = last["mb_rate"] / middle["mb_rate"]
    rows.append(Row("growth: ingest until built", "flat", "", each(lambda p: f"{number(p['mb_rate'])} MB/s"),
                    f"{flat:.2f} of the rate at {sizes[-2]:,}", flat >= 0.8))
    rows.append(Row("growth: daemon memory after a first query", "bounded", "", each(lambda p: megabytes(p["memory"])),
                    f"{last['memory'] / first['memory']:.1f}x", last["memory"] < 2 * first["memory"]))
    bench.lines("growth-query", "Query of 2 terms by size of the collection", "documents", "us",
                {"ldbfs": [(n, points[n]["us"]) for n in sizes]}, log=True, log_x=True)
    bench.lines("growth-ingest", "Ingest until built by size of the collection", "documents", "MB/s",
                {"ldbfs": [(n, points[n]["mb_rate"]) for n in sizes]}, log_x=True)
    return rows, []
