"""What the rows of the benchmark share: drivers (long-lived processes), rounds in turn, the cache, the table's rows."""
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, "../mount"))
import harness  # noqa: E402

BUILD = os.path.join(ROOT, "build/bench")
JAVA = ["java", "-Xmx4g", "-Xms1g", "-XX:+UseParallelGC", "-XX:-UsePerfData", "-cp", BUILD + ":/usr/share/java/*",
        "LuceneBench"]
Skip = harness.Skip


class Failed(Exception):
    pass


def say(*text):
    print(time.strftime("%H:%M:%S"), *text, file=sys.stderr, flush=True)


OURS = ("engine_bench", "mount_bench", "vecdata")  # built by scripts/bench, with the release binary


def make(target):
    """A driver, built; Skip when what it needs is not there."""
    if target in OURS:
        return os.path.join(BUILD, target)
    p = subprocess.run(["make", "--no-print-directory", "-C", ROOT, f"build/bench/{target}"], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, check=False)
    if p.returncode:
        raise Skip(f"{target} could not be built: {p.stdout.strip().splitlines()[-1] if p.stdout.strip() else ''}")
    return os.path.join(BUILD, target)


def run_json(*command, timeout=3600):
    """A command that prints one line of JSON."""
    p = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=timeout, check=False)
    if p.returncode:
        raise Failed(f"{os.path.basename(str(command[0]))}: exit {p.returncode}: {p.stderr.strip()[-400:]}")
    return json.loads(p.stdout.strip().splitlines()[-1])


class Driver:
    """A process that answers commands with lines of JSON."""

    def __init__(self, name, *command):
        self.name = name
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=harness.die_with_parent)

    def __call__(self, *words):
        try:
            self.process.stdin.write("\t".join(str(w) for w in words) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"{self.name} ended with {self.process.wait()} at {words[0]}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def interleave(rounds, sides):
    """sides: name -> function of one round. Every side once, then again: what else the machine does meets all of
    them. One round before that does not count. Lists of what the functions return."""
    for side in sides.values():
        side()
    out = {name: [] for name in sides}
    for r in range(rounds):
        names = list(sides)
        for name in names if r % 2 == 0 else reversed(names):
            out[name].append(sides[name]())
    return out


def median(values):
    return statistics.median(values)


def ratio(ours, peer, key, better="high"):
    """Median of the ratios of the rounds, above 1 where ours is better."""
    pairs = [(o[key], p[key]) for o, p in zip(ours, peer)]
    return median([o / p if better == "high" else p / o for o, p in pairs])


class Row:
    """A line of the table. ratio and goal: None when there is nothing to judge."""

    def __init__(self, work, goal="", peers="", ours="", shown="", ok=None, note=""):
        self.work, self.goal, self.peers, self.ours, self.shown, self.ok, self.note = (
            work, goal, peers, ours, shown, ok, note)

    def verdict(self):
        return {True: "pass", False: "**short**", None: ""}[self.ok]

    def cells(self):
        return [self.work, self.goal, self.peers, self.ours, self.shown, self.verdict()]


def number(x):
    if x is None:
        return ""
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.3g}"


def microseconds(us):
    if us < 1000:
        return f"{number(us)} us"
    return f"{number(us / 1000)} ms" if us < 1e6 else f"{number(us / 1e6)} s"


def megabytes(n):
    return f"{n / 1e6:,.1f} MB" if n < 1e8 else f"{n / 1e6:,.0f} MB"


def directory_bytes(path, allocated=False):
    total = 0
    for d, _, files in os.walk(path):
        for f in files:
            st = os.lstat(os.path.join(d, f))
            total += st.st_blocks * 512 if allocated else st.st_size
    return total


class Cache:
    """What is made once: data, exact neighbours, peers' indexes with the times their making took."""

    def __init__(self, directory, fresh):
        self.directory, self.fresh, self.made = os.path.abspath(directory), fresh, set()
        os.makedirs(self.directory, exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def have(self, name, build, renew=False):
        """The path of `name`, made by build(path) when it is not there; with renew anew under --fresh. What build
        returns is kept beside it: (path, that, made in this run)."""
        path, facts = self.path(name), self.path(name + ".json")
        if name in self.made or (os.path.exists(facts) and os.path.exists(path) and not (renew and self.fresh)):
            with open(facts, encoding="utf-8") as f:
                return path, json.load(f), name in self.made
        say("making", name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        temporary = path + ".new"
        if os.path.isdir(temporary):
            shutil.rmtree(temporary)
        got = build(temporary)
        os.replace(temporary, path)
        with open(facts, "w", encoding="utf-8") as f:
            json.dump(got, f)
        self.made.add(name)
        return path, got, True


class StaticFs:
    """A filesystem that does nothing (static_fs.c)."""

    def __init__(self, bench, n):
        self.point = bench.env.path("mnt-static")
        os.makedirs(self.point, exist_ok=True)
        self.process = subprocess.Popen([make("static_fs"), str(n), self.point, bench.env.path("static.log")],
                                        preexec_fn=harness.die_with_parent)
        try:
            harness.wait_for("the static filesystem", lambda: os.path.ismount(self.point))
        except harness.Failure as e:
            self.process.kill()
            raise Failed(str(e)) from None

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        subprocess.run(["fusermount3", "-u", "-z", "-q", self.point], stderr=subprocess.DEVNULL, check=False)
