"""What every mount test uses: a mount on a fresh data directory, the command line, and honest failures.

A test is a function test_*(env). It gets a temporary directory of its own in env.tmp, so that tests run side by side.
Environment: LDBFS_BIN (the binary), LDBFS_MODE (quick, normal or long), LDBFS_SEED.
"""
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("LDBFS_BIN", os.path.join(ROOT, "build/release/ldbfs"))
MODE = os.environ.get("LDBFS_MODE", "normal")
SLOW = 4 if os.environ.get("LDBFS_SLOW") else 1  # sanitizers: deadlines are this much longer
SANITIZER_EXIT = 97


LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In a child, before exec: a test that is killed leaves no daemon behind."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Skip(Exception):
    """The test cannot run here; the text says what is missing."""


class Failure(Exception):
    pass


def need(tool):
    if not shutil.which(tool):
        raise Skip(f"{tool} is not installed")


def data_file(name):
    for base in (os.environ.get("LDBFS_TEST_DATA"), os.path.join(ROOT, "../shared/data")):
        if base and os.path.exists(os.path.join(base, name)):
            return os.path.join(base, name)
    raise Skip(f"no {name} (set LDBFS_TEST_DATA)")


def read_jsonl(path):
    if path.endswith(".zst"):
        need("zstd")
        text = subprocess.run(["zstd", "-dc", path], stdout=subprocess.PIPE, check=True).stdout.decode()
    else:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    return [json.loads(line) for line in text.split("\n") if line]


def check(ok, *what):
    if not ok:
        raise Failure(" ".join(w if isinstance(w, str) else repr(w) for w in what) or "check failed")


def equal(got, want, *what):
    if got != want:
        text = " ".join(map(str, what))
        raise Failure(f"{text}: got {short(got)}, expected {short(want)}")


def short(value, limit=600):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def wait_for(what, probe, seconds=20):
    """Polls an event; the pause only bounds how late it is seen."""
    end = time.monotonic() + seconds * SLOW
    while True:
        got = probe()
        if got:
            return got
        if time.monotonic() > end:
            raise Failure(f"waited {seconds * SLOW} s for {what}")
        time.sleep(0.01)


def write_lines(path, docs):
    with open(path, "w", encoding="utf-8") as f:
        for doc in docs:
            f.write((doc if isinstance(doc, str) else json.dumps(doc, ensure_ascii=False)) + "\n")
    return path


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def append(path, text):
    """One write and one close, as echo does; raises OSError as the tool would see it."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(fd, data):]
    finally:
        os.close(fd)


def name_of(text):
    """A query as a file name: what a user would have to encode."""
    return text.replace("%", "%25").replace("/", "%2F")


def has_options(spec):
    """Options begin at the last ? that a word and = follow; any other ? is the wildcard."""
    return re.search(r"\?[a-z]+=", spec) is not None


class Env:
    """One test: its directory, its mounts, its sanitizer logs."""

    def __init__(self, name):
        self.name = name
        self.tmp = tempfile.mkdtemp(prefix="ldbfs-test-", dir=os.environ.get("LDBFS_TEST_TMP"))
        self.data = os.path.join(self.tmp, "data")
        self.logs = os.path.join(self.tmp, "logs")
        os.mkdir(self.logs)
        self.mounts = []
        seed = os.environ.get("LDBFS_SEED") or str(random.SystemRandom().randrange(1 << 32))
        self.seed = int(seed)
        self.random = random.Random(self.seed)
        self.environ = dict(os.environ)
        log = os.path.join(self.logs, "sanitizer")
        common = f"log_path={log}:exitcode={SANITIZER_EXIT}"
        self.environ.update(
            LC_ALL="C.UTF-8", TZ="UTC", HOME=self.tmp, XDG_DATA_HOME=os.path.join(self.tmp, "xdg"),
            ASAN_OPTIONS=f"{common}:abort_on_error=0:detect_stack_use_after_return=1:"
                         f"allocator_may_return_null=1:detect_leaks={os.environ.get('LDBFS_LEAKS', '1')}",
            UBSAN_OPTIONS=f"{common}:print_stacktrace=1",
            TSAN_OPTIONS=f"{common}:second_deadlock_stack=1")

    def path(self, *parts):
        return os.path.join(self.tmp, *parts)

    def mount(self, *options, data=None, name="mnt", **more):
        m = Mount(self, data or self.data, self.path(name), options, **more)
        self.mounts.append(m)
        return m

    def ldbfs(self, *args, data=None, status=0, stdin=None, timeout=120, text=True):
        """Runs a command on the data directory; its stdout. status None: the whole CompletedProcess."""
        command = [BIN, args[0], *(["--data", data or self.data] if args[0] != "unmount" else []), *args[1:]]
        p = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environ,
                           timeout=timeout * SLOW, text=text)
        if status is None:
            return p
        if p.returncode != status:
            raise Failure(f"ldbfs {' '.join(args)}: exit {p.returncode}, expected {status}: {short(p.stderr)} "
                          f"{short(p.stdout)}")
        return p.stdout

    def sh(self, command, cwd=None, status=0, timeout=60, shell=("bash", "-c"), stdin=None):
        """Runs a shell line, with T the test's directory; its stdout. status None: the CompletedProcess."""
        environ = dict(self.environ, T=self.tmp, LDBFS=BIN, DATA=self.data)
        p = subprocess.Popen([*shell, command], cwd=cwd or self.tmp, env=environ, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            out, err = p.communicate(stdin, timeout=timeout * SLOW)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            raise Failure(f"{command!r} did not end in {timeout * SLOW} s") from None
        if status is None:
            return subprocess.CompletedProcess(command, p.returncode, out, err)
        if p.returncode != status:
            raise Failure(f"{command!r}: exit {p.returncode}, expected {status}: {short(err)} {short(out)}")
        return out

    def check_store(self, data=None):
        """ldbfs check finds nothing."""
        p = self.ldbfs("check", data=data, status=None)
        check(p.returncode == 0, "ldbfs check:", p.stdout[-2000:], p.stderr[-2000:])

    def sanitizer_text(self):
        text = ""
        for entry in sorted(os.listdir(self.logs)):
            with open(os.path.join(self.logs, entry), errors="replace") as f:
                text += f.read().split("\nShadow bytes around")[0] + "\n"
        return text

    def close(self, failed):
        """Unmounts what is left. Raises if a daemon ended badly or a sanitizer spoke."""
        problem = None
        for m in self.mounts:
            try:
                if failed:
                    m.kill()
                else:
                    m.stop()
            except Failure as e:
                problem = problem or e
                m.kill()
        text = self.sanitizer_text()
        if text:
            problem = Failure("sanitizer: " + text[:6000])
        if not os.environ.get("LDBFS_KEEP"):
            shutil.rmtree(self.tmp, ignore_errors=True)
        if problem:
            raise problem


class Mount:
    """A running `ldbfs mount -f`. m("c/docs") is a path in it."""

    def __init__(self, env, data, point, options, wrapper=(), start=True):
        self.env, self.data, self.point = env, data, point
        self.options, self.wrapper = options, list(wrapper)
        self.process = None
        self.log = os.path.join(env.tmp, f"daemon-{os.path.basename(point)}.log")
        os.makedirs(point, exist_ok=True)
        if start:
            self.start()

    def __call__(self, *parts):
        return os.path.join(self.point, *parts)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, BIN, "mount", "-f", "--data", self.data, *self.options, self.point],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env.environ, start_new_session=True,
                preexec_fn=die_with_parent)
        try:
            wait_for("the mount", self.ready, 30)
        except Failure as e:
            raise Failure(f"{e}: {self.output()[-2000:]}") from None

    def ready(self):
        if self.process.poll() is not None:
            raise Failure(f"ldbfs mount ended with {self.process.returncode}: {self.output()[-3000:]}")
        try:
            return os.stat(self.point).st_dev != os.stat(os.path.dirname(self.point)).st_dev
        except OSError:
            return False

    def pid(self):
        """The daemon's own process (below strace it is a child)."""
        if not self.wrapper:
            return self.process.pid
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            return int(f.read().split()[0])

    def memory_peak(self):
        with open(f"/proc/{self.pid()}/status") as f:
            for line in f:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def memory_now(self):
        with open(f"/proc/{self.pid()}/status") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def output(self):
        try:
            with open(self.log, errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """SIGTERM: drains, unmounts, exits 0."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self.pid(), signal.SIGTERM)
        try:
            status = self.process.wait(60 * SLOW)
        except subprocess.TimeoutExpired:
            raise Failure("the daemon did not end within 60 s of SIGTERM") from None
        self.process = None
        if status:
            self.detach()
            raise Failure(f"the daemon ended with {status}: {self.output()[-3000:]}"
                          f"{self.env.sanitizer_text()[:4000]}")
        check(not os.path.ismount(self.point), "still mounted after SIGTERM")

    def kill(self):
        """kill -9, and the dead mount point is cleaned up."""
        if self.process is not None:
            if self.process.poll() is None:
                os.kill(self.pid(), signal.SIGKILL)
            self.process.wait()
            self.process = None
        self.detach()

    def detach(self):
        subprocess.run(["fusermount3", "-u", "-z", "-q", self.point], stderr=subprocess.DEVNULL, check=False)

    def sh(self, command, **more):
        more.setdefault("cwd", self.point)
        return self.env.sh(command, **more)

    # What tests do all the time.
    def make(self, name, schema=None, docs=None):
        os.mkdir(self(name))
        if schema is not None:
            with open(self(name, "schema.json"), "w") as f:
                f.write(json.dumps(schema))
        if docs:
            self.load(name, docs)
        return name

    def load(self, name, docs, target="upsert"):
        append(self(name, "ingest", target), "".join(
            (d if isinstance(d, str) else json.dumps(d, ensure_ascii=False)) + "\n" for d in docs))

    def ask(self, name, spec):
        with open(self(name, "query", name_of(spec)), encoding="utf-8") as f:
            return f.read()

    def ids(self, name, spec):
        separator = "&" if has_options(spec) else "?"
        return self.ask(name, f"{spec}{separator}format=ids").split()

    def status(self, name):
        return json.loads(read(self(name, "status.json")))

    def docs(self, name):
        """Every document, by id, read one by one."""
        out = {}
        for entry in os.scandir(self(name, "docs")):
            doc = json.loads(read(entry.path))
            check(doc["id"] not in out, "listed twice:", doc["id"])
            out[doc["id"]] = doc
        return out
