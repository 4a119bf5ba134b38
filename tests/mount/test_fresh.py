"""What is written is seen: by the next read, by another mount, by the command line, at once."""
import json
import os
import re
import signal
import threading
import time

from harness import SLOW, Skip, append, check, equal, read, wait_for


def test_read_your_writes(env):
    m = env.mount()
    m.make("c")
    for i in range(100):
        append(m("c/ingest/upsert"), json.dumps({"id": str(i), "title": f"number n{i}"}) + "\n")
        equal(m.ids("c", f"n{i}"), [str(i)])
        equal(json.loads(m.ask("c", "*:*?size=1&format=json"))["total"], i + 1)


def test_other_processes_see_it(env):
    a, b = env.mount(name="a"), env.mount(name="b")
    a.make("c")
    for i in range(30):
        (a, b)[i % 2].load("c", [{"id": str(i), "title": f"number n{i}"}])
        equal(a.ids("c", f"n{i}"), [str(i)], "first mount")
        equal(b.ids("c", f"n{i}"), [str(i)], "second mount")
        equal(env.ldbfs("query", "c", f"n{i}?format=ids"), f"{i}\n", "command line")
    equal(sorted(a.docs("c")), sorted(b.docs("c")))


def test_background_build(env):
    m = env.mount("--build-age=50")
    m.make("c", docs=[{"id": str(i), "title": f"number n{i}"} for i in range(500)])
    wait_for("the background build", lambda: json.loads(env.ldbfs("status", "--json", "c"))["unbuilt_records"] == 0)
    equal(len(m.ids("c", "number?size=1000")), 500)
    env.check_store()


def test_command_line_beside_a_mount(env):
    m = env.mount()
    equal(env.ldbfs("load", "--create", "--quiet", "c", "-", stdin='{"id":"1","t":"one"}\n{"id":"2","t":"two"}\n'), "")
    equal(m.ids("c", "one"), ["1"])
    env.ldbfs("load", "--op", "delete", "c", "-", stdin='"1"\n')
    equal(m.ids("c", "*:*"), ["2"])
    env.ldbfs("build", "--snapshot", "s", "c")
    m.load("c", [{"id": "3"}])
    env.ldbfs("clone", "c@s", "d")
    equal(m.ids("d", "*:*"), ["2"])
    env.ldbfs("restore", "c", "s")
    equal(m.ids("c", "*:*"), ["2"])
    p = env.ldbfs("load", "c", "-", status=None, stdin='{"id":"5"}\n{bad\n')
    equal((p.returncode, "line 2 refused" in p.stderr), (1, True), p.stderr)
    equal(m.ids("c", "*:*"), ["2", "5"])
    p = env.ldbfs("query", "c", "t:[", status=None)
    equal(p.returncode, 1, p.stderr)
    equal(p.stderr.splitlines()[-1].strip(), "^", p.stderr)
    equal(env.ldbfs("query", "--data=" + env.data, "c", "two?format=ids"), "2\n")
    env.check_store()


def test_status_after_much(env):
    """Whether the background builder is waited for, or the log is indexed: right after the close it is exact."""
    for name, options in (("built", []), ("indexed", ["--build-age", "-1"])):
        m = env.mount(*options, data=env.path(name), name=f"mnt-{name}")
        m.make("c")
        with open(m("c/ingest/upsert"), "w", encoding="utf-8") as f:
            for part in range(3):
                for i in range(3000):
                    f.write(json.dumps({"id": f"{part}-{i}", "title": f"number n{i} " + "of many words " * 30}) + "\n")
                f.flush()
                s = m.status("c")
                check(s["documents_seq"] <= s["seq_written"] and s["documents"] <= 3000 * (part + 1), s)
        s = m.status("c")
        equal((s["documents"], s["documents_seq"]), (9000, s["seq_written"]), name)
        m.stop()


def replace(m, how, i):
    """Another collection is "c" from now on; what was "c" before, if it is still there."""
    if how == "dropped":
        os.rmdir(m("c"))
    else:
        os.rename(m("c"), m(f"old{i}"))
    if how == "swapped":
        os.rename(m("spare"), m("c"))
    else:
        m.make("c")
    append(m("c/ingest/upsert"), json.dumps({"id": f"new{i}", "title": "whale"}) + "\n")
    return None if how == "dropped" else f"old{i}"


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


# What is done first in the other mount, and whether it saw the collection that is "c" now.
FIRST = {
    "query": lambda m, i: m.ids("c", "whale") == [f"new{i}"],
    "open": lambda m, i: json.loads(read(m(f"c/docs/new{i}.json")))["id"] == f"new{i}",
    "stat": lambda m, i: os.stat(m(f"c/docs/new{i}.json")).st_size > 0,
    "gone": lambda m, i: not os.path.exists(m("c/docs/before.json")),
    "list": lambda m, i: os.listdir(m("c/docs")) == [f"new{i}.json"],
    "append": lambda m, i: append(m("c/ingest/upsert"), '{"id":"mine"}\n') or sorted(m.docs("c")) == ["mine", f"new{i}"],
    "create": lambda m, i: write(m("c/docs/mine.json"), "{}") or sorted(m.docs("c")) == ["mine", f"new{i}"],
    "remove": lambda m, i: os.unlink(m(f"c/docs/new{i}.json")) or not m.docs("c"),
    "save": lambda m, i: write(m("c/queries/q"), "whale") or os.listdir(m("c/queries")) == ["q"],
}


def test_names_that_other_processes_change(env):
    """Whatever the kernel keeps, a path never leads to the collection that had the name before."""
    a, b = env.mount(name="a"), env.mount(name="b")
    a.make("c", docs=[{"id": "before", "title": "whale"}])
    a.make("spare")
    i = 0
    for how in ("renamed", "dropped", "swapped"):
        for name, first in FIRST.items():
            for warm in (a("c/docs"), a("c/query"), a("c/ingest/upsert"), a("c/queries")):
                os.stat(warm)
            old = replace(b, how, i)
            check(first(a, i), f"{name} after the collection was {how}")
            equal(old and "mine" in a.docs(old), False if old else None)
            os.rmdir(a("c"))
            if how == "swapped":
                b.make("spare")
            a.make("c", docs=[{"id": "before", "title": "whale"}])
            i += 1


def test_used_names_in_a_collection_that_is_replaced(env):
    """The same with names that were used in the old one a moment ago."""
    a, b = env.mount(name="a"), env.mount(name="b")
    doc, target = a("c/docs/x.json"), a("c/ingest/upsert")
    used = {"read": (lambda: read(doc), lambda: json.loads(read(doc))["t"] == "new"),
            "ask": (lambda: a.ids("c", "t:old"), lambda: a.ids("c", "t:old") == []),
            "append": (lambda: append(target, '{"id":"y"}\n'), lambda: append(target, '{"id":"z"}\n') or "z" in a.docs("c")),
            "write": (lambda: read(doc), lambda: write(doc, '{"t":"mine"}') or "mine" in read(doc)),
            "remove": (lambda: read(doc), lambda: os.unlink(doc) or "x" not in a.docs("c")),
            "enter": (lambda: os.listdir(a("c/docs")),
                      lambda: json.loads(a.sh("cd c/docs && cat x.json"))["t"] == "new"),
            "access": (lambda: os.stat(target), lambda: os.access(target, os.F_OK))}
    for name, (before, after) in used.items():
        a.make("c", docs=[{"id": "x", "t": "old"}])
        a.make("spare", docs=[{"id": "x", "t": "new"}])
        inside = os.open(a("c"), os.O_RDONLY | os.O_DIRECTORY)
        before()
        os.rename(b("c"), b("gone"))
        os.rename(b("spare"), b("c"))
        os.fstat(inside)
        check("docs" in os.listdir(inside), "an open directory is listed")
        os.close(inside)
        check(after(), f"{name} in what took the name")
        equal((a.docs("gone")["x"]["t"], "z" in a.docs("gone")), ("old", False), name)
        os.rename(b("c"), b("spare"))
        check(not os.access(target, os.F_OK) and not os.path.exists(doc), "nothing has the name")
        for done in ("gone", "spare"):
            os.rmdir(a(done))


def test_names_are_kept_until_another_process_changes_one(env):
    """The kernel knows a collection's name without asking, even while the daemon stands still; then it is recalled."""
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 16):
        raise Skip("this kernel cannot be told to forget all names")
    a, b = env.mount(name="a"), env.mount(name="b")
    a.make("c", docs=[{"id": "old"}])
    wait_for("the name to be kept", lambda: keeps(a, "c"))
    os.rename(b("c"), b("d"))
    check(not os.path.exists(a("c")), "the old name is gone")
    equal(sorted(a.docs("d")), ["old"])
    wait_for("the new name to be kept", lambda: keeps(a, "d"))
    env.ldbfs("load", "--quiet", "d", "-", stdin='{"id":"more"}\n')
    check(keeps(a, "d"), "writes recall nothing")
    b.stop()
    wait_for("the name to be kept with one mount", lambda: keeps(a, "d"))
    os.rename(a("d"), a("e"))
    equal(sorted(os.listdir(a("e/docs"))), ["more.json", "old.json"])


def keeps(m, name):
    """Is the name known while nobody can answer?"""
    opened = []
    client = threading.Thread(target=lambda: opened.append(os.open(m(name), os.O_PATH)))
    os.stat(m(name))
    os.kill(m.pid(), signal.SIGSTOP)
    try:
        wait_for("the daemon to stand still", lambda: read(f"/proc/{m.pid()}/stat").rsplit(")", 1)[1].split()[0] == "T")
        client.start()
        client.join(0.5)
        return not client.is_alive()
    finally:
        os.kill(m.pid(), signal.SIGCONT)
        client.join()
        for fd in opened:
            os.close(fd)


def test_names_that_change_places_while_others_change_too(env):
    """Each mount waits for what the other keeps while it changes names itself: nothing stands still, nothing is stale."""
    a, b = env.mount(name="a"), env.mount(name="b")
    for name in ("x", "y", "p"):
        a.make(name, docs=[{"id": name}])
    ended, failed = threading.Event(), []

    def there_and_back():
        try:
            while not ended.is_set():
                os.rename(a("p"), a("q"))
                os.rename(a("q"), a("p"))
        except OSError as e:
            failed.append(e)

    mover = threading.Thread(target=there_and_back)
    mover.start()
    try:
        for i in range(60 // SLOW):
            m, began = (a, b)[i % 2], time.monotonic()
            for old, new in (("x", "t"), ("y", "x"), ("t", "y")):
                os.rename(m(old), m(new))
            want = ["x.json", "y.json"] if i % 2 else ["y.json", "x.json"]
            for seen in (a, b):
                equal([name for c in ("x", "y") for name in os.listdir(seen(f"{c}/docs"))], want, i)
            check(time.monotonic() - began < 20 * SLOW, "a mount did not give back what it kept")
    finally:
        ended.set()
        mover.join()
    equal(failed, [])
