"""The command line and the daemon: help, errors, background mounts, stale mounts, signals."""
import os
import re
import signal
import subprocess
import time

from harness import BIN, SLOW, check, equal, need, read, wait_for

COMMANDS = ["mount", "unmount", "status", "load", "query", "clone", "restore", "build", "check"]


def run(env, *args):
    return subprocess.run([BIN, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env.environ,
                          timeout=30 * SLOW)


def test_help(env):
    whole = run(env, "--help")
    equal((whole.returncode, whole.stderr), (0, ""))
    for c in COMMANDS:
        check(re.search(rf"^  {c} ", whole.stdout, re.M), c, "is not in --help")
        p = run(env, c, "--help")
        equal((p.returncode, p.stderr), (0, ""), c)
        check(p.stdout.startswith(f"Usage: ldbfs {c}"), p.stdout)
        check("--help" in p.stdout, p.stdout)
        equal(max(map(len, p.stdout.splitlines())) < 80, True, c, "--help within 80 columns")
    equal(max(map(len, whole.stdout.splitlines())) < 80, True, "--help within 80 columns")
    version = run(env, "--version")
    check(re.fullmatch(r"ldbfs \d+\.\d+\.\d+\n", version.stdout), version.stdout)


def test_bad_command_lines(env):
    for args, word in ((["--zorp"], "--zorp"), (["zorp"], "zorp"), ([], "command"), (["load", "c"], "needs"),
                       (["status", "a", "b"], "b"), (["build", "--shards", "x", "c"], "--shards"),
                       (["build", "--shards=2000", "c"], "1024"), (["load", "--op", "zorp", "c", "-"], "--op"),
                       (["status", "--merge"], "--merge"), (["--merge", "status"], "--merge"),
                       (["query", "c", "x", "--data"], "--data"), (["status", "--json=1"], "--json")):
        p = run(env, *args)
        equal((p.returncode, p.stdout), (2, ""), args, p.stderr)
        equal(p.stderr.count("\n"), 1, args, p.stderr)
        check(p.stderr.startswith("ldbfs: ") and word in p.stderr, args, p.stderr)


def test_failures(env):
    for args in (["query", "none", "x"], ["clone", "none", "d"], ["restore", "none", "x"], ["build", "none"],
                 ["load", "none", "-"], ["status", "none"], ["unmount", env.tmp]):
        p = env.ldbfs(*args, status=None, stdin="")
        equal((p.returncode, p.stdout), (1, ""), args, p.stderr)
        check(re.fullmatch(r"ldbfs: [^\n]+\n", p.stderr), args, p.stderr)
    p = env.ldbfs("status", data="/proc/none/x", status=None)
    equal(p.returncode, 1)


def test_output_errors(env):
    env.ldbfs("load", "--create", "c", "-", stdin='{"id":"1","t":"x"}\n')
    p = env.sh('$LDBFS query --data $DATA c "*:*" > /dev/full', status=None)
    equal(p.returncode, 1, p.stderr)
    check("could not write" in p.stderr, p.stderr)
    lines = "".join(f'{{"id":"{i}","t":"x"}}\n' for i in range(20000))
    env.ldbfs("load", "c", "-", stdin=lines)
    equal(env.sh('$LDBFS query --data $DATA c "*:*?size=10000" | head -n1 | wc -l', timeout=30), "1\n")


def test_status(env):
    env.ldbfs("load", "--create", "c", "-", stdin='{"id":"1","t":"x"}\n')
    check("c " in env.ldbfs("status"))
    p = env.sh("$LDBFS status --data $DATA --json c | jq -r '[.name,.documents,.unbuilt_records]|@tsv'")
    equal(p, "c\t1\t0\n")


def test_background_mount(env):
    os.mkdir(env.path("m"))
    env.ldbfs("mount", env.path("m"))
    check(os.path.ismount(env.path("m")), "the command returned before the mount answered")
    try:
        check(read(env.path("m/README.md")))
        p = env.ldbfs("mount", env.path("m"), status=None)
        equal(p.returncode, 1, "mounting over a live mount")
    finally:
        env.ldbfs("unmount", env.path("m"))
    check(not os.path.ismount(env.path("m")), "still mounted")
    wait_for("the daemon's end", lambda: not subprocess.run(
        ["pgrep", "-f", f"ldbfs mount --data {env.data}"], stdout=subprocess.DEVNULL, check=False).returncode == 0)


def test_mount_failure_is_said(env):
    p = env.ldbfs("mount", env.path("none"), status=None)
    equal(p.returncode, 1)
    check(re.match(r"ldbfs: .*none", p.stderr), p.stderr)


def test_stale_mount(env):
    m = env.mount()
    m.make("c", docs=[{"id": "1"}])
    os.kill(m.pid(), signal.SIGKILL)
    m.process.wait()
    try:
        os.listdir(m.point)
        check(False, "the mount should be dead")
    except OSError:
        pass
    m.process = None
    p = subprocess.run([BIN, "mount", "--data", env.data, m.point], env=env.environ, stderr=subprocess.PIPE, text=True,
                       timeout=30 * SLOW)
    equal(p.returncode, 0, p.stderr)
    equal(os.listdir(m("c/docs")), ["1.json"])
    env.ldbfs("unmount", m.point)


def test_sigterm_drains(env):
    m = env.mount("--build-age=-1")
    m.make("c")
    # A writer that is busy until the daemon goes away.
    writer = subprocess.Popen(["bash", "-c", 'i=0; while echo "{\\"id\\":\\"$i\\"}" >> c/ingest/upsert && '
                               'echo $i >&3; do i=$((i+1)); done'], cwd=m.point, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, pass_fds=(), env=dict(env.environ),
                              preexec_fn=lambda: os.dup2(os.open(env.path("acked"), os.O_CREAT | os.O_WRONLY), 3),
                              close_fds=False)
    wait_for("some writes", lambda: os.path.exists(env.path("acked")) and len(read(env.path("acked"))) > 200)
    os.kill(m.pid(), signal.SIGTERM)
    equal(m.process.wait(30 * SLOW), 0, "exit status")
    m.process = None
    writer.kill()
    writer.wait()
    m.detach()
    m.start()
    there = {name[:-5] for name in os.listdir(m("c/docs"))}
    missing = [i for i in read(env.path("acked")).split() if i not in there]
    equal(missing, [], "acknowledged and gone")


def test_interrupt_query(env):
    """Ctrl-C ends a reader at once, and the mount answers others meanwhile."""
    m = env.mount()
    m.make("c", {"indexConfigs": {"t": {"type": "text"}}})
    with open(m("c/ingest/upsert"), "w") as f:
        rng = env.random
        for i in range(60000):
            f.write('{"id":"%d","t":"%s"}\n' % (i, " ".join(f"w{rng.randrange(50)}" for _ in range(20))))
    spec = "(" + " OR ".join(f"t:w{i}*" for i in range(50)) + ")?size=10000"
    reader = subprocess.Popen(["cat", m("c/query", spec)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("cat", lambda: read(f"/proc/{reader.pid}/comm") == "cat\n")  # before that the signal is not cat's
    time.sleep(0.05)
    start = time.monotonic()
    os.stat(m("c/docs"))
    check(time.monotonic() - start < 1 * SLOW, "stat waited behind a query")
    start = time.monotonic()
    reader.send_signal(signal.SIGINT)
    reader.wait(30)
    check(time.monotonic() - start < 2 * SLOW, "Ctrl-C took", time.monotonic() - start)
    equal(len(os.listdir(m("c/docs"))), 60000)


def test_interrupt_load(env):
    """Ctrl-C during load: what was accepted before stays, the cut line does not."""
    p = subprocess.Popen([BIN, "load", "--data", env.data, "--create", "c", "-"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env.environ)
    p.stdin.write(b'{"id":"1","t":"x"}\n{"id":"2","t":"y"}\n{"id":"3","t":')
    p.stdin.flush()
    wait_for("the collection", lambda: env.ldbfs("status", "c", status=None).returncode == 0)
    time.sleep(0.3 * SLOW)
    p.send_signal(signal.SIGINT)
    p.wait(30 * SLOW)
    equal(p.returncode, 130)
    equal(env.ldbfs("query", "c", "*:*?format=ids"), "1\n2\n")


def test_progress_bar_only_on_a_terminal(env):
    need("script")
    lines = env.path("l.jsonl")
    with open(lines, "w") as f:
        f.writelines(f'{{"id":"{i}"}}\n' for i in range(5000))
    p = env.ldbfs("load", "--create", "c", lines, status=None)
    equal(p.stderr, "")
    out = env.sh(f"script -qec '$LDBFS load --data $DATA c {lines}' /dev/null", timeout=30)
    check("#" in out and "%" in out, out[-500:])
