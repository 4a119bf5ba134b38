"""fsync is really there: a system call trace of the daemon shows the log's fdatasync before each acknowledgement, and
a log rebuilt from only the bytes that were synced keeps every acknowledged record."""
import json
import os
import re
import shutil
import time

from harness import check, equal, need, wait_for

WRITES = 60
CALL = re.compile(r"^(\d+\.\d+) (\w+)\((\d+)<([^>]*)>(?:\(deleted\))?(.*)\) += (-?\d+)(?: .*)? <(\d+\.\d+)>$")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def unhex(text):
    return bytes.fromhex(text.replace("\\x", ""))


def trace_lines(folder):
    """(start, end, call, path, data, offset): finished calls on log files, by when they ended."""
    calls = []
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), errors="replace") as f:
            for line in f:
                m = CALL.match(line.rstrip("\n"))
                path = unhex(m.group(4)).decode() if m and m.group(4).startswith("\\x") else ""
                if not path.endswith(".log") or int(m.group(6)) < 0:
                    continue
                start, call, rest, result, took = (float(m.group(1)), m.group(2), m.group(5), int(m.group(6)),
                                                   float(m.group(7)))
                data = b"".join(unhex(s) for s in STRING.findall(rest))[:result] if "write" in call else b""
                numbers = re.findall(r", (\d+)", rest)
                place = {"pwrite64": -1, "pwritev": -1, "ftruncate": -1, "pwritev2": -2}.get(call)
                offset = int(numbers[place]) if place else None
                calls.append((start, start + took, call, path, data, offset))
    return sorted(calls, key=lambda c: c[1])


def synced_files(calls, until):
    """path -> contents made only of writes that ended before an fdatasync of that file began, which ended by `until`."""
    files = {}
    for path in {c[3] for c in calls}:
        syncs = [c[0] for c in calls if c[3] == path and c[2] in ("fdatasync", "fsync") and c[1] <= until]
        content = bytearray()
        for _, end, call, _, data, offset in (c for c in calls if c[3] == path):
            if not syncs or end > max(syncs):
                continue
            if call == "ftruncate":
                del content[offset:]
            elif "write" in call:
                check(offset is not None, "a write without an offset in the log:", call)
                content.extend(b"\0" * (offset + len(data) - len(content)))
                content[offset:offset + len(data)] = data
        files[path] = bytes(content)
    return files


def replay(env, calls, until, number):
    """A copy of the data directory whose log holds only what was synced by then; the ids in it."""
    data = env.path(f"replay{number}")
    shutil.copytree(env.data, data)
    for folder, _, names in os.walk(os.path.join(data, "log")):
        for name in names:
            if name.endswith(".log"):
                os.unlink(os.path.join(folder, name))
    for path, content in synced_files(calls, until).items():
        with open(os.path.join(data, os.path.relpath(path, env.data)), "wb") as f:
            f.write(content)
    ids = env.ldbfs("query", "c", "*:*?size=10000&format=ids", data=data).split()
    env.check_store(data)
    return set(ids)


def test_fsync_before_acknowledgement(env):
    need("strace")
    probe = env.sh("strace -o /dev/null true", status=None)
    if probe.returncode:
        from harness import Skip
        raise Skip("strace cannot trace here: " + probe.stderr.strip())
    trace = env.path("trace")
    os.mkdir(trace)
    m = env.mount("--build-age=-1", wrapper=["strace", "-ff", "-ttt", "-T", "-y", "-xx", "-s", "4194304", "-e",
                                             "trace=pwrite64,pwritev,pwritev2,write,writev,ftruncate,fdatasync,fsync",
                                             "-e", "signal=none", "-o", os.path.join(trace, "t")])
    m.make("c", {"indexConfigs": {"t": {"type": "text"}}})
    acknowledged = []
    for i in range(WRITES):
        ids = [f"doc{i}-{j}" for j in range(1 + i % 7)]
        m.load("c", [{"id": d, "t": "text " * (i % 50)} for d in ids])
        acknowledged.append((time.time(), ids))
    m.kill()
    # The tracer writes what it saw before it ends; m.kill waits for it.
    calls = wait_for("the trace", lambda: trace_lines(trace))
    check(any(c[2] == "fdatasync" for c in calls), "no fdatasync of the log at all")
    for when, ids in acknowledged:
        for d in ids:
            written = [c for c in calls if f'"{d}"'.encode() in c[4]]
            check(written, "the log never got", d)
            first = min(written, key=lambda c: c[1])
            syncs = [c for c in calls if c[2] in ("fdatasync", "fsync") and c[3] == first[3] and c[0] >= first[1]
                     and c[1] <= when]
            check(syncs, d, "was acknowledged without an fdatasync of", first[3])
    for number, upto in enumerate((1, WRITES // 3, WRITES // 2, WRITES)):
        when = acknowledged[upto - 1][0]
        there = replay(env, calls, when, number)
        missing = [d for _, ids in acknowledged[:upto] for d in ids if d not in there]
        equal(missing, [], "lost although acknowledged, after", upto, "writes")
    print(f"{sum(c[2] == 'fdatasync' for c in calls)} fdatasyncs for {WRITES} acknowledgements")


def test_one_sync_for_many_writers(env):
    """Group commit: writers at the same time share syncs."""
    m = env.mount("--build-age=-1")
    m.make("c", {"indexConfigs": {"t": {"type": "text"}}})
    m.sh("""for w in 1 2 3 4 5 6 7 8; do
              (for i in $(seq 40); do echo "{\\"id\\":\\"$w-$i\\"}" > c/ingest/w$w-$i.jsonl || exit 1; done) & done; wait""")
    equal(json.loads(env.ldbfs("status", "--json", "c"))["documents"], 320)
