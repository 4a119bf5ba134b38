"""Signals that a program handles: they interrupt queries only, nothing else, whatever the program's restart flag says."""
import json
import signal
import subprocess
import sys
import time

from harness import SLOW, check, equal, read, wait_for

ROUNDS = 3000
FAST = 0.0005

# The system calls themselves: Python would try again by itself.
CALLS = r"""
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
root, rounds = sys.argv[1].encode(), int(sys.argv[2])
signal.signal(signal.SIGALRM, lambda *a: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[3]), float(sys.argv[3]))
buf = ctypes.create_string_buffer(512)
failed = {}

def note(what, bad):
    if bad:
        name = f"{what}: {os.strerror(ctypes.get_errno())}"
        failed[name] = failed.get(name, 0) + 1

for i in range(rounds):
    for path in (b"", b"/c", b"/c/docs", b"/c/docs/1.json", b"/c/status.json"):
        note("stat", libc.stat(root + path, buf))
    fd = libc.open(root + b"/c/docs/1.json", os.O_RDONLY)
    note("open", fd < 0)
    if fd >= 0:
        os.close(fd)
    d = libc.opendir(root + b"/c/docs")
    note("opendir", not d)
    ctypes.set_errno(0)
    while d and libc.readdir(d):
        pass
    note("readdir", ctypes.get_errno())
    if d:
        libc.closedir(d)
signal.setitimer(signal.ITIMER_REAL, 0)
print(failed)
"""


def test_timer_signals(env):
    m = env.mount()
    m.make("c", docs=[{"id": str(i), "t": "x"} for i in range(3)])
    p = subprocess.run([sys.executable, "-c", CALLS, m.point, str(ROUNDS // SLOW), str(FAST)], stdout=subprocess.PIPE, text=True,
                       timeout=100 * SLOW)
    equal((p.returncode, p.stdout), (0, "{}\n"), "errors of calls with a timer running")


def test_interrupted_queries(env):
    """Ctrl-C of queries that run and of queries that wait for a thread."""
    m = env.mount()
    m.make("c", {"indexConfigs": {"t": {"type": "text"}}})
    rng = env.random
    with open(m("c/ingest/upsert"), "w") as f:
        for i in range(80_000):
            f.write(json.dumps({"id": str(i), "t": " ".join(f"w{rng.randrange(5000):04}" for _ in range(40))}) + "\n")
    slow = " ".join(f"t:w*{a}{b}{c}" for a in range(10) for b in range(10) for c in range(4)) + "?size=10000&timeout=10m&from=%d"
    readers = [subprocess.Popen(["cat", m("c/query", slow % i)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
               for i in range(12)]
    for r in readers:  # before that the signal is the test's, not cat's
        wait_for("cat", lambda: read(f"/proc/{r.pid}/comm") == "cat\n")
    time.sleep(0.3)
    running = [r for r in readers if r.poll() is None]
    for r in running:
        r.send_signal(signal.SIGINT)
    start = time.monotonic()
    for r in running:
        r.wait(30 * SLOW)
    took = time.monotonic() - start
    print(f"{len(running)} of {len(readers)} were still running, the last ended after {took:.3f} s", readers[0].stderr.read())
    check(len(running) > 8, "the queries were not slow enough")
    check(took < 2 * SLOW, len(running), "interrupted queries ended after", took)
    check(m.ids("c", "t:w0001?size=1"), "a query afterwards")
