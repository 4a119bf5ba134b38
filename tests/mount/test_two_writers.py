"""Two processes ingest into one collection; one is killed in the middle of a frame."""
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import threading

from harness import SLOW, check, equal, read, wait_for

N = 10_000
BATCH = 50

# Appends batches until the mount goes away; a batch's numbers are printed once its close has returned.
WRITER = """
import json, os, sys
target, prefix, n, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
try:
    for start in range(0, n, batch):
        fd = os.open(target, os.O_WRONLY | os.O_APPEND)
        data = "".join(json.dumps({"id": "%s-%06d" % (prefix, i), "t": "w" * (i % 700)}) + "\\n" for i in range(start, start + batch))
        data = data.encode()
        try:
            while data:
                data = data[os.write(fd, data):]
        finally:
            os.close(fd)
        print(start, flush=True)
except OSError as e:
    print("end", e, flush=True)
"""


def start_writer(mount, prefix, n):
    return subprocess.Popen([sys.executable, "-c", WRITER, mount("c/ingest/upsert"), prefix, str(n), str(BATCH)],
                            stdout=subprocess.PIPE, text=True)


def acked(lines):
    return {start + i for start in (int(l) for l in lines if l.strip().isdigit()) for i in range(BATCH)}


def tear(data):
    """Half a frame at the end of the log, as a process leaves it that dies inside an append: under the log's lock."""
    logs = os.path.join(data, "log")
    folder = os.path.join(logs, os.listdir(logs)[0])
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR)
    fcntl.fcntl(lock, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    try:
        last = sorted(n for n in os.listdir(folder) if n.endswith(".log"))[-1]
        path = os.path.join(folder, last)
        with open(path, "rb") as f:
            head = f.read(4096)
        with open(path, "ab") as f:
            f.write(head[-29:] * 3)
    finally:
        os.close(lock)


def test_two_writers_one_killed(env):
    a, b = env.mount(name="a"), env.mount(name="b")
    a.make("c", {"indexConfigs": {"t": {"type": "keyword"}}})
    base = json.loads(env.ldbfs("status", "--json", "c"))["seq_written"]  # the schema has a number too
    writers = [start_writer(a, "a", 100 * N), start_writer(b, "b", N)]  # one has more than it can write before it is killed
    out = [[], []]
    threads = [threading.Thread(target=lambda i=i: out[i].extend(writers[i].stdout)) for i in (0, 1)]
    for t in threads:
        t.start()
    batches = 40 + env.random.randrange(100)  # of both: fewer than the other one has alone, so it is still writing
    wait_for("both to write", lambda: min(map(len, out)) > 20 and sum(map(len, out)) > batches)
    os.kill(a.pid(), signal.SIGKILL)
    tear(env.data)
    for w in writers:
        w.wait(100 * SLOW)
    for t in threads:
        t.join()
    check(out[0][-1].startswith("end"), "the killed mount's writer saw no error", out[0][-1])
    equal(len(acked(out[1])), N, "the other writer's acknowledged documents", out[1][-1])
    a.kill()
    a.start()
    for mount in (a, b):
        names = os.listdir(mount("c/docs"))
        equal(len(names), len(set(names)), "listed twice")
        there = set(names)
        for prefix, lines in zip("ab", out):
            missing = [i for i in acked(lines) if f"{prefix}-{i:06}.json" not in there]
            equal(missing[:5], [], prefix, "acknowledged and missing", len(missing))
    # More may be there than was acknowledged, only of the one that was killed, and only of its batch in flight.
    extra = len(there) - N - len(acked(out[0]))
    check(0 <= extra <= BATCH, extra, "documents that nobody was told about")
    total = json.loads(a.ask("c", "*:*?size=1&format=json"))["total"]
    equal(total, len(there), "total")
    ranges_are_gapless(b, base + len(there))
    env.ldbfs("build", "c")
    equal(json.loads(a.ask("c", "*:*?size=1&format=json"))["total"], total, "total after build")
    env.check_store()


test_two_writers_one_killed.timeout = 240


def ranges_are_gapless(m, records):
    """Every record has one number: the last number is the count of records."""
    status = json.loads(m.env.ldbfs("status", "--json", "c"))
    equal(status["seq_written"], records, "sequence numbers given, records stored")
    firsts = []
    for name in os.listdir(m("c/ingest/receipts")):
        for line in read(m("c/ingest/receipts", name)).splitlines():
            try:
                r = json.loads(line)
            except ValueError:
                continue
            if isinstance(r, dict) and r.get("first_seq"):
                firsts.append((r["first_seq"], r["last_seq"]))
    firsts.sort()
    for (_, end), (start, _) in zip(firsts, firsts[1:]):
        check(start > end, "sessions share sequence numbers", end, start)


def test_two_loads_at_once(env):
    for name in "ab":
        with open(env.path(name + ".jsonl"), "w") as f:
            f.writelines(f'{{"id":"{name}{i}","t":"x"}}\n' for i in range(N))
    env.ldbfs("load", "--create", "--quiet", "c", "-", stdin='{"id":"first","t":"x"}\n')
    env.sh("$LDBFS load --data $DATA c a.jsonl & P=$!; $LDBFS load --data $DATA c b.jsonl && wait $P", timeout=120)
    status = json.loads(env.ldbfs("status", "--json", "c"))
    equal((status["documents"], status["unbuilt_records"]), (2 * N + 1, 0))
    env.check_store()
