"""Names that change while others use them: meant for the sanitizers."""
import os
import re
import signal
import struct
import subprocess
import threading
import time

from harness import MODE, SLOW, Skip, append, check, equal, need, read, wait_for

SECONDS = {"quick": 4, "normal": 8, "long": 60}[MODE]


def at_once(env, seconds, *jobs):
    """Runs the jobs over and over, each in a thread; OSErrors are part of the game."""
    end, problems = time.monotonic() + seconds, []

    def loop(job):
        try:
            while time.monotonic() < end:
                try:
                    job()
                except OSError as e:
                    check(e.errno not in (5, 107, 121), "the mount failed:", str(e))  # EIO, ENOTCONN, EREMOTEIO
        except Exception as e:
            problems.append(repr(e))

    threads = [threading.Thread(target=loop, args=(j,)) for j in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(problems, [])


def test_dropped_names_renamed(env):
    m = env.mount()
    m.make("c")
    rng = env.random
    names = [m(f"c/ingest/f{i}.jsonl") for i in range(3)]

    def write():
        with open(rng.choice(names), "w") as f:
            f.write('{"id":"1"}\n')

    def rename():
        os.rename(rng.choice(names), rng.choice(names))

    at_once(env, SECONDS, *[write] * 6, *[rename] * 4, lambda: os.listdir(m("c/ingest")), lambda: os.unlink(rng.choice(names)))
    equal(list(m.docs("c")), ["1"])


def test_scratch_names_renamed(env):
    """As editors do, several on the same documents."""
    m = env.mount()
    m.make("c", docs=[{"id": str(i)} for i in range(3)])
    rng = env.random
    names = [m(f"c/docs/{i}.json{end}") for i in range(3) for end in ("", "~", ".tmp")]

    def write():
        with open(rng.choice(names), "w") as f:
            f.write('{"t":"x"}\n')

    def rename():
        os.rename(rng.choice(names), rng.choice(names))

    def look():
        for name in os.listdir(m("c/docs")):
            with open(m("c/docs", name)) as f:
                f.read()

    at_once(env, SECONDS, *[write] * 3, *[rename] * 4, look, look)


def test_open_read_close(env):
    m = env.mount()
    m.make("c", docs=[{"id": str(i), "t": "x" * (i * 100)} for i in range(30)])

    def look():
        for name in os.listdir(m("c/docs")):
            equal(read(m("c/docs", name))[-1:], "\n")

    def write():
        m.load("c", [{"id": env.random.randrange(30), "t": "y" * 3000}])

    at_once(env, SECONDS, *[look] * 5, write)


def test_term_while_writing(env):
    """SIGTERM in the middle of large writes: they finish, or the writer sees an error. What was acknowledged stays."""
    m = env.mount()
    m.make("c")
    script = """
import json, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
print("open", flush=True)
for i in range(int(sys.argv[2])):
    data = "".join('{"id":"%s-%06d"}\\n' % (sys.argv[3], i * 100 + j) for j in range(100)).encode()
    while data:
        data = data[os.write(fd, data):]
    sys.stdin.readline() if i == 0 else None
os.close(fd)
print("closed", flush=True)
"""
    short = [subprocess.Popen(["python3", "-c", script, m(f"c/ingest/f{k}.jsonl"), "50", f"f{k}"], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for k in range(3)]
    stuck = subprocess.Popen(["python3", "-c", script, m("c/ingest/upsert"), "2", "s"], text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for p in (*short, stuck):
        equal(p.stdout.readline(), "open\n")
    os.kill(m.pid(), signal.SIGTERM)
    wait_for("the mount point to be free", lambda: not os.path.ismount(m.point))
    other = env.mount(name="other")  # what comes next on the same data is not harmed
    os.rmdir(m.point)
    os.mkdir(m.point)
    for p in short:
        p.stdin.write("\n")
        p.stdin.flush()
    for p in short:
        out, err = p.communicate(timeout=60 * SLOW)
        equal((p.returncode, out), (0, "closed\n"), err)
    m.stop()  # gives up on the one that does not end
    out, err = stuck.communicate("\n", timeout=60 * SLOW)
    check(stuck.returncode != 0 and "closed" not in out, "a writer that was cut off saw no error")
    names = os.listdir(other("c/docs"))
    equal(len([n for n in names if n.startswith("f")]), 15_000, "documents of the writers that finished")


def test_term_leaves_the_next_mount_alone(env):
    """The next mount is on the same mount point while the old daemon still waits for a writer."""
    m = env.mount()
    m.make("c")
    fd = os.open(m("c/ingest/upsert"), os.O_WRONLY)
    old = m.process
    os.kill(old.pid, signal.SIGTERM)
    wait_for("the mount point to be free", lambda: not os.path.ismount(m.point))
    m.process = None
    m.start()
    equal(old.poll(), None, "the old daemon has not waited for the writer")
    equal(os.write(fd, b'{"id":"late"}\n'), 14)
    os.close(fd)
    equal(old.wait(30 * SLOW), 0)
    equal(list(m.docs("c")), ["late"])


def test_receipts_that_cannot_be_kept(env):
    """Lost refused lines and receipts are told."""
    m = env.mount()
    m.make("c")
    cid = m.status("c")["id"]
    for sub in ("receipts", "rejects"):
        path = os.path.join(env.data, "files", cid, sub)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.isdir(path):
            os.rmdir(path)
        with open(path, "w"):
            pass
    try:
        append(m("c/ingest/upsert"), '{"id":"1"}\n')
        raise AssertionError("close succeeded without a receipt")
    except OSError as e:
        check("errno" not in str(e).lower() or e.errno, str(e))
    check("receipt" in read(m("errors.jsonl")), read(m("errors.jsonl")))
    equal(list(m.docs("c")), ["1"], "the data itself is in")
    try:
        append(m("c/ingest/upsert"), '{"id":"2"}\n{bad\n')
        raise AssertionError("refused lines were not told")
    except OSError as e:
        equal(e.errno, 74, "errno")
    text = read(m("errors.jsonl"))
    check("refused lines" in text, text)


def test_document_nobody_was_told_about(env):
    """The opener has gone; its child's broken document leaves a line."""
    m = env.mount()
    m.make("c")
    fd = os.open(m("c/docs/1.json"), os.O_WRONLY | os.O_CREAT)
    child = subprocess.Popen(["python3", "-c", "import os,sys; sys.stdin.readline(); os.write(%d, b'{bad')" % fd],
                             pass_fds=[fd], stdin=subprocess.PIPE)
    os.close(fd)
    child.communicate(b"\n")
    wait_for("the line", lambda: "docs/1.json" in read(m("errors.jsonl")))
    equal(os.listdir(m("c/docs")), [])


def test_metadata_does_not_wait_for_indexing(env):
    """Many lookups wait for one collection's log to be indexed; everything else answers meanwhile."""
    m = env.mount("--build-age=-1", "--build-bytes=4000000000")
    m.make("e", docs=[{"id": "1", "t": "x"}])
    m.make("c")
    with open(m("c/ingest/upsert"), "w") as f:
        for i in range(300_000):
            f.write('{"id":"%d","t":"words number %d and more text here, %d"}\n' % (i, i, i * 7 % 1000))
    threads = [threading.Thread(target=read, args=(m(f"c/docs/{i}.json"),)) for i in range(16)]
    for t in threads:
        t.start()
    rounds = 0
    while any(t.is_alive() for t in threads):
        for path in ("", "c", "c/docs", "e"):
            os.stat(m(path))
        for path in ("README.md", "status.json", "c/status.json", "e/status.json"):
            read(m(path))
        os.listdir(m.point)
        rounds += 1
    check(rounds > 4, "metadata waited for documents:", rounds, "rounds")
    equal(m.ids("c", "number?size=1") != [], True)


def test_many_open_files(env):
    """The soft limit is no limit."""
    m = env.mount(wrapper=("prlimit", "--nofile=128:4096"), start=False)
    need("prlimit")
    m.start()
    m.wrapper = []  # it has become the daemon
    m.make("c")
    files = [open(m(f"c/ingest/.f{i}.jsonl.tmp"), "w") for i in range(300)]
    for f in files:
        f.write('{"id":"1"}\n')
    for f in files:
        f.close()
    os.rename(m("c/ingest/.f299.jsonl.tmp"), m("c/ingest/f.jsonl"))
    equal(list(m.docs("c")), ["1"])


def test_lookups_of_a_directory_go_side_by_side(env):
    """The answer to INIT says so: without it the kernel asks for one name of a directory after the other."""
    need("strace")
    if env.sh("strace -o /dev/null true", status=None).returncode:
        raise Skip("strace cannot trace here")
    trace = env.path("trace")
    m = env.mount(wrapper=["strace", "-f", "-xx", "-s", "200", "-e", "trace=writev", "-o", trace])
    m.kill()
    with open(trace, encoding="utf-8") as f:
        answers = [bytes.fromhex("".join(re.findall(r"\\x(..)", line))) for line in f if "iov_len=16}, {" in line]
    major, minor, _, flags = struct.unpack_from("<IIII", answers[0], 16)
    check((major, flags >> 18 & 1) == (7, 1), "FUSE_PARALLEL_DIROPS", major, minor, hex(flags))
