#!/usr/bin/env python3
"""What it costs, beside the engines one would take instead, on the same data in the same run: the goals' table.

  bench.py [--quick] [--rounds N] [--fresh] [--without PEER] [--out DIR] [--list] [GROUP...]

Groups of rows: text mount ingest ack size knn knn1m filter scan list cold growth; all without a name. A group that fails
says so in its line and the others go on. Rounds of ours and of the peers are run in turn; ratios are medians of the
rounds' ratios, and above 1 ours is better unless the goal says otherwise.

Data, exact neighbours and peers' indexes are kept in $LDBFS_BENCH_CACHE (build/bench-cache). --fresh builds hnswlib's
indexes again, so that their times are of this run; otherwise a time that is remembered is marked. Results of the groups are
kept in build/bench/results (--quick: results-quick); the page is written from all of them: to --out, as BENCHMARKS.md and
bench/*.svg, or to build/bench/report.
"""
import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback

import common
from common import Cache, Failed, Row, Skip, harness, say
import plot
import rows_cold
import rows_store
import rows_text
import rows_vector

GROUPS = {
    "text": ("Full text inside the engine", rows_text.text),
    "mount": ("Through the mount", rows_text.mount),
    "ingest": ("Ingest", rows_text.ingest),
    "ack": ("Durable writes", rows_text.ack),
    "size": ("Size on disk", rows_text.size),
    "knn": ("Nearest neighbours: Fashion-MNIST", rows_vector.knn),
    "knn1m": ("Nearest neighbours: a million", rows_vector.knn1m),
    "filter": ("Nearest neighbours with a filter", rows_vector.filtered),
    "scan": ("Exact scan", rows_vector.scan),
    "list": ("Listing directories", rows_store.listing),
    "cold": ("Cold queries", rows_cold.cold),
    "growth": ("Growth", rows_store.growth),
}
QUICK = ("text", "mount", "ingest", "ack", "size", "knn", "filter", "scan", "list", "growth")
HEADER = ["work", "goal", "peers", "ours", "ratio", ""]


class Bench:
    def __init__(self, args):
        self.quick, self.rounds = args.quick, args.rounds
        self.short_rounds = args.rounds * (1 if args.quick else 3)  # where the machine's moods weigh more than the work
        self.heavy_rounds = 2 if args.quick and not args.rounds_given else args.rounds
        self.documents = args.documents or (20000 if args.quick else 100000)
        self.images = args.images or (20000 if args.quick else 0)
        self.vectors = args.vectors or 1000000
        self.cache = Cache(os.environ.get("LDBFS_BENCH_CACHE") or os.path.join(common.ROOT, "build/bench-cache"), args.fresh)
        self.env = harness.Env("bench")
        self.made, self.charts, self.without = {}, {}, args.without

    def once(self, name, build):
        if name not in self.made:
            say("making", name)
            self.made[name] = build()
        return self.made[name]

    def chart(self, name, title, label, groups):
        self.charts[name] = plot.bars(title, groups, label)

    def lines(self, name, title, x, y, series, **more):
        series = {k: v for k, v in series.items() if v}
        if series:
            self.charts[name] = plot.lines(title, x, y, series, **more)


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="utf-8") as f:
        memory = int(f.readline().split()[1]) / 1e6
    with open("/etc/debian_version", encoding="utf-8") as f:
        debian = f.read().strip()
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        flags = f.read()
    simd = ", ".join(x.upper() for x in ("avx2", "avx512f") if f" {x} " in flags)
    return f"{os.cpu_count()} cores of {model} ({simd}), {memory:.0f} GB, Debian {debian}, Linux {platform.release().split('-')[0]}"


def versions():
    out = []
    for package in ("liblucene8-java", "libsqlite3-0", "libxapian30", "libhnswlib-dev", "libfaiss-dev", "openjdk-17-jre-headless"):
        p = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}", package], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True, check=False)
        if p.returncode == 0 and p.stdout:
            out.append(p.stdout)
    return ", ".join(out)


def busy_processors(seconds=1.0):
    """How many are busy, with others' work: nothing of ours runs between groups."""
    def times():
        with open("/proc/stat", encoding="utf-8") as f:
            numbers = [int(n) for n in f.readline().split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]
    total, idle = times()
    time.sleep(seconds)
    total_after, idle_after = times()
    return (1 - (idle_after - idle) / max(1, total_after - total)) * os.cpu_count()


def run_group(bench, name):
    bench.charts = {}
    load = busy_processors()
    start = time.time()
    try:
        rows, notes = GROUPS[name][1](bench)
    except Skip as e:
        rows, notes = [Row(GROUPS[name][0], ours="skipped", peers=str(e))], []
    except (Failed, harness.Failure, OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError) as e:
        traceback.print_exc()
        text = " ".join(str(e).split())[:300]
        rows, notes = [Row(GROUPS[name][0], ours="failed", peers=text.replace("|", "/"), ok=False)], []
    return {"name": name, "time": start, "seconds": time.time() - start, "rounds": bench.rounds, "notes": notes,
            "load": load, "charts": sorted(bench.charts),
            "rows": [r.cells() for r in rows]}, dict(bench.charts)


def table(results):
    out = ["| " + " | ".join(HEADER) + " |", "|---|---|---|---|---|---|"]
    for r in results:
        for row in r["rows"]:
            out.append("| " + " | ".join(" ".join(str(c).split()) for c in row) + " |")
    return "\n".join(out)


def summary(results):
    judged = [row[-1] for r in results for row in r["rows"] if row[-1]]
    missing = [g for g in GROUPS if g not in [r["name"] for r in results]]
    text = f"{sum(v == 'pass' for v in judged)} of {len(judged)} goals reached"
    return text + (f" in the groups measured; not measured: {', '.join(missing)}" if missing else "")


def page(results, command):
    when = time.strftime("%Y-%m-%d", time.gmtime(max(r["time"] for r in results)))
    out = ["# Benchmarks", "",
           f"{machine()}; {when}. Command: `{command}` (rows of some groups: `scripts/bench text knn ...`; in minutes: "
           f"`make bench-quick`). It installs and drives the peers: {versions()}.", "",
           "Work is done in turn by us and by the peer in one run, " +
           f"{max(r['rounds'] for r in results)} rounds (three times as many through the mount, of durable writes, filters and scans); a ratio is the median of the rounds' ratios and above 1 where ours is "
           "better, except where the goal is a bound. \"CPU\" is the same ratio of processor time. Absolute times mean little on another machine.",
           "", summary(results) + ".", ""]
    for r in results:
        out += [f"## {GROUPS[r['name']][0]}", "", table([r]), ""]
        out += [f"- {n}" for n in r["notes"]] + ([""] if r["notes"] else [])
        out += [f"![{c}](bench/{c}.svg)\n" for c in r["charts"]]
        if r["load"] > 0.2:
            out += [f"Others were using the machine ({r['load']:.1f} processors before it): only the ratios count, and those of CPU most.\n"]
    return "\n".join(out).rstrip() + "\n"


def write_page(directory, results, charts, command):
    os.makedirs(os.path.join(directory, "bench"), exist_ok=True)
    for name in [c for r in results for c in r["charts"]]:
        with open(os.path.join(charts, name + ".svg"), encoding="utf-8") as f:
            text = f.read()
        with open(os.path.join(directory, "bench", name + ".svg"), "w", encoding="utf-8") as f:
            f.write(text)
    extra = ""
    notes = os.path.join(common.HERE, "notes.md")
    if os.path.exists(notes):
        with open(notes, encoding="utf-8") as f:
            extra = "\n" + f.read()
    with open(os.path.join(directory, "BENCHMARKS.md"), "w", encoding="utf-8") as f:
        f.write(page(results, command) + extra)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data and fewer rounds: under five minutes")
    parser.add_argument("--rounds", type=int, default=0, help="rounds in turn (5; --quick: 3)")
    parser.add_argument("--documents", type=int, default=0, help="so many reviews (100,000; --quick: 20,000)")
    parser.add_argument("--images", type=int, default=0, help="so many images (60,000; --quick: 20,000)")
    parser.add_argument("--vectors", type=int, default=0, help="so many synthetic vectors (1,000,000)")
    parser.add_argument("--fresh", action="store_true", help="build hnswlib's indexes again")
    parser.add_argument("--without", action="append", default=[], choices=["FAISS", "Xapian", "FTS5"],
                        help="leave a peer out that is only shown for comparison")
    parser.add_argument("--out", help="directory for BENCHMARKS.md and bench/*.svg")
    parser.add_argument("--list", action="store_true", help="only write the page from the kept results")
    parser.add_argument("--binary", help="another ldbfs for the mount")
    parser.add_argument("group", nargs="*")
    args = parser.parse_args()
    args.rounds_given = args.rounds > 0
    args.rounds = args.rounds or (3 if args.quick else 5)
    for g in args.group:
        if g not in GROUPS:
            parser.error(f"no group \"{g}\"; there are {' '.join(GROUPS)}")
    args.group = [] if args.list else args.group or list(QUICK if args.quick else GROUPS)
    return args


def run_groups(bench, args, kept):
    for name in args.group:
        say(GROUPS[name][0])
        result, charts = run_group(bench, name)
        with open(os.path.join(kept, name + ".json"), "w", encoding="utf-8") as f:
            json.dump(result, f)
        for chart, svg in charts.items():
            with open(os.path.join(kept, chart + ".svg"), "w", encoding="utf-8") as f:
                f.write(svg)
        print("\n".join([table([result])] + ["- " + n for n in result["notes"]]), file=sys.stderr, flush=True)


def main():
    args = parse()
    if args.binary:
        harness.BIN = os.path.abspath(args.binary)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is mounted and made goes
    kept = os.path.join(common.BUILD, "results-quick" if args.quick else "results")
    os.makedirs(kept, exist_ok=True)
    bench, start = Bench(args), time.time()
    try:
        run_groups(bench, args, kept)
    finally:
        bench.env.close(True)
    results = []
    for name in GROUPS:
        path = os.path.join(kept, name + ".json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                results.append(json.load(f))
    if not results:
        sys.exit("no results are kept: run some groups first")
    out = args.out or os.path.join(common.BUILD, "report")
    write_page(out, results, kept, "make bench-quick" if args.quick else "make bench")
    chosen = [r for r in results if not args.group or r["name"] in args.group]
    print(f"\n{table(chosen)}\n\n{summary(chosen)}, {time.time() - start:.0f} s; the page with charts: {out}/BENCHMARKS.md")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
