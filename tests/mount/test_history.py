"""Snapshots, clone, restore, undo, drop and un-drop with the shell."""
import json
import os
import time

from harness import check, equal, read

SCHEMA = {"indexConfigs": {"title": {"type": "text"}, "n": {"type": "long"}}}


def docs(lo, hi, word="old"):
    return [{"id": f"{i:06}", "title": f"{word} number n{i}", "n": i} for i in range(lo, hi)]


def count(m, c, query="*:*"):
    return json.loads(m.ask(c, query + "?size=1&format=json"))["total"]


def snapshot_names(m, c):
    return sorted(os.listdir(m(c, "snapshots")))


def prepared(env, n=1400):
    """A collection c with a built state of n old documents, snapshotted as `before`, then changed."""
    m = env.mount()
    m.make("c", SCHEMA, docs(0, n))
    env.ldbfs("build", "c")
    os.mkdir(m("c/snapshots/before"))
    m.load("c", docs(0, 100, "new"))
    m.load("c", [{"id": f"{i:06}"} for i in range(100, 150)], "delete")
    return m


def test_clone(env):
    m = prepared(env)
    m.sh("mv c/snapshots/before d")
    equal((count(m, "d"), count(m, "d", "new"), count(m, "c"), count(m, "c", "new")), (1400, 0, 1350, 100))
    check("before" in snapshot_names(m, "c"), "the snapshot stays listed after the clone")
    m.load("d", [{"id": "only-d", "title": "clone"}])
    m.load("c", [{"id": "only-c", "title": "source"}])
    equal((m.ids("d", "clone"), m.ids("c", "clone"), m.ids("c", "source"), m.ids("d", "source")),
          (["only-d"], [], ["only-c"], []), "isolation")
    m.sh("rm d/docs/000007.json")
    check(os.path.exists(m("c/docs/000007.json")), "a delete in the clone reached the source")
    m.sh("rmdir c")
    equal(count(m, "d"), 1400, "after dropping the source")
    env.ldbfs("build", "--clean", "0", "--grace", "0")
    equal(len(m.docs("d")), 1400, "all of the clone is readable after cleaning")
    env.check_store()


def test_clone_by_time(env):
    m = env.mount()
    m.make("c", SCHEMA, docs(0, 10))
    env.ldbfs("build", "c")
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(time.time())) + f".{int(time.time() * 1000) % 1000:03}Z"
    time.sleep(0.05)
    m.load("c", docs(10, 20))
    env.ldbfs("build", "c")
    equal(count(m, "c"), 20)
    equal(len(os.listdir(m("c/snapshots", stamp, "docs"))), 10, "any instant resolves")
    equal(len(os.listdir(m("c/snapshots", stamp.replace("-", ":").replace(":", "-", 2), "docs"))), 10, "with colons")
    times = [s for s in snapshot_names(m, "c") if s[:4].isdigit()]
    check(len(times) >= 2, times)
    m.sh(f"mv c/snapshots/{stamp} d")
    equal(count(m, "d"), 10)
    equal(len(os.listdir(m("c/snapshots/latest/docs"))), 20)
    equal(m.sh("cat c/snapshots/@1d-ago/status.json", status=None).returncode, 1, "before the beginning")


def test_restore_and_undo(env):
    m = prepared(env)
    m.sh("mv -T c/snapshots/before c")
    equal((count(m, "c"), count(m, "c", "new")), (1400, 0), "restored")
    m.load("c", [{"id": "later", "title": "later"}])
    equal(m.ids("c", "later"), ["later"], "writes after the restore")
    env.ldbfs("build", "c")
    equal((count(m, "c"), count(m, "c", "new"), m.ids("c", "later")), (1401, 0, ["later"]), "built after the restore")
    # The state before the restore is in the history.
    undo = [s for s in snapshot_names(m, "c") if s != "before" and s[:4].isdigit()
            and len(os.listdir(m("c/snapshots", s, "docs"))) == 1350]
    check(undo, "no version holds the state before the restore:", snapshot_names(m, "c"))
    m.sh(f"mv -T c/snapshots/{undo[-1]} c")
    equal((count(m, "c"), count(m, "c", "new")), (1350, 100), "undone")
    env.check_store()


def test_restore_of_unbuilt_changes(env):
    """What is only in the log when restore comes is in the history too."""
    m = env.mount("--build-age=-1")
    m.make("c", SCHEMA, docs(0, 50))
    os.mkdir(m("c/snapshots/s"))
    m.load("c", docs(50, 60, "unbuilt"))
    m.sh("mv -T c/snapshots/s c")
    equal(count(m, "c"), 50)
    env.ldbfs("build", "c")
    states = {len(os.listdir(m("c/snapshots", s, "docs"))) for s in snapshot_names(m, "c")}
    check(60 in states, "sizes of the snapshots:", states)
    for cycle in range(3):
        m.load("c", docs(60 + cycle, 61 + cycle, "again"))
        equal(count(m, "c"), 51)
        m.sh("mv -T c/snapshots/s c")
        equal(count(m, "c"), 50, "cycle", cycle)
    env.check_store()


def test_open_shells_survive(env):
    """Shells that stand in the collection over its restore. The kernel itself marks a directory dead that another was
    moved onto, so in C itself `cd .` comes first; below it nothing is needed."""
    m = prepared(env)
    held = {d: os.open(m("c", d), os.O_RDONLY | os.O_DIRECTORY) for d in ("docs", "query", "ingest")}
    try:
        out = m.sh("cd c && mv -T ../c/snapshots/before ../c; cd . && cat 'query/old?size=1&format=ids' && ls docs | wc -l")
        equal(out, "000000\n1400\n", "the shell that restored the directory it stands in")
        with open(os.open("old?size=1&format=ids", os.O_RDONLY, dir_fd=held["query"])) as f:
            equal(f.read(), "000000\n", "query/ held open")
        with open(os.open("000120.json", os.O_RDONLY, dir_fd=held["docs"])) as f:
            equal(json.load(f)["title"], "old number n120", "docs/ held open")
        again = os.open(".", os.O_RDONLY, dir_fd=held["docs"])
        equal(len(os.listdir(again)), 1400, "ls in docs/ held open")
        os.close(again)
        with os.fdopen(os.open("upsert", os.O_WRONLY, dir_fd=held["ingest"]), "w") as f:
            f.write('{"id":"through","title":"through"}\n')
        equal(m.ids("c", "through"), ["through"], "ingest/ held open")
    finally:
        for fd in held.values():
            os.close(fd)
    m.sh("mv c renamed")
    equal(count(m, "renamed"), 1401)


def test_open_shells_survive_a_rename(env):
    m = prepared(env, 200)
    held = os.open(m("c"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rename(m("c"), m("d"))
        with open(os.open("query/number?size=1&format=ids", os.O_RDONLY, dir_fd=held)) as f:
            equal(f.read(), "000000\n", "the renamed directory held open")
        os.rmdir(m("d"))
        try:
            os.open("query/number?size=1&format=ids", os.O_RDONLY, dir_fd=held)
            check(False, "a dropped collection answers")
        except FileNotFoundError:
            pass
    finally:
        os.close(held)


def test_mv_without_T(env):
    m = prepared(env, 200)
    p = m.sh("mv c/snapshots/before c", status=None)
    check(p.returncode != 0 and "not permitted" in p.stderr, p.stderr)
    check("-T" in read(m("errors.jsonl")).splitlines()[-1], "the hint is in errors.jsonl")
    equal(count(m, "c"), 150)


def test_drop_and_undrop(env):
    m = prepared(env, 300)
    m.sh("rmdir c")
    check(not os.path.exists(m("c")), "still there")
    m.make("c", SCHEMA, docs(0, 3))
    trash = os.listdir(m(".ldbfs/trash"))
    equal(len(trash), 1, trash)
    m.sh(f"mv .ldbfs/trash/{trash[0]} back")
    equal((count(m, "back"), count(m, "back", "new"), count(m, "c")), (250, 100, 3))
    check("before" in snapshot_names(m, "back"), "its history came back")
    equal(os.listdir(m(".ldbfs/trash")), [])
    m.load("back", [{"id": "more"}])
    equal(count(m, "back"), 251)
    env.check_store()


def test_rm_r_and_undrop(env):
    """rm -r deletes documents before the directory: the trash offers the state before the first delete."""
    m = prepared(env, 300)
    m.sh("rm -r c")
    entries = sorted(os.listdir(m(".ldbfs/trash")))
    equal(len(entries), 2, "the state at the end and the one before the first delete:", entries)
    m.sh(f"mv .ldbfs/trash/{entries[-1]} back")
    equal((count(m, "back"), count(m, "back", "new")), (250, 100), entries)
    equal(len(m.docs("back")), 250)
    env.check_store()


def test_snapshots_read_only(env):
    m = prepared(env, 200)
    for command in ("echo x >> c/snapshots/before/docs/new.json", "rm c/snapshots/before/docs/000000.json",
                    "mkdir c/snapshots/before/x"):
        p = m.sh(command, status=None)
        check(p.returncode != 0 and "Read-only" in p.stderr, command, p.stderr)
    m.sh("rmdir c/snapshots/before")
    check("before" not in snapshot_names(m, "c"))
    p = m.sh("mkdir c/snapshots/a && mkdir c/snapshots/a", status=None)
    check("exists" in p.stderr, p.stderr)


def test_diff_between_snapshots(env):
    m = env.mount()
    m.make("c", SCHEMA, docs(0, 5))
    os.mkdir(m("c/snapshots/a"))
    m.load("c", [{"id": "000001", "title": "changed"}, {"id": "z"}])
    os.mkdir(m("c/snapshots/b"))
    out = m.sh("diff -rq c/snapshots/a/docs c/snapshots/b/docs", status=1)
    equal(len(out.splitlines()), 2, out)
    check("000001.json" in out and "z.json" in out, out)
    equal(m.sh("cat 'c/snapshots/a/query/changed'"), "")
    equal(m.sh("cat 'c/snapshots/b/query/changed?format=ids'"), "000001\n")


def clone_cost(env, n):
    data = env.path(f"data{n}")
    lines = env.path(f"{n}.jsonl")
    with open(lines, "w") as f:
        for d in docs(0, n):
            f.write(json.dumps(d) + "\n")
    with open(env.path("schema.json"), "w") as f:
        json.dump(SCHEMA, f)
    env.ldbfs("load", "--create", "--schema", env.path("schema.json"), "--quiet", "c", lines, data=data, timeout=300)
    env.ldbfs("build", "--full", "--snapshot", "s", "c", data=data, timeout=300)
    counters = json.loads(env.ldbfs("clone", "--counters", "c@s", "d", data=data))
    equal(env.ldbfs("query", "d", "n:7?format=ids", data=data), "000007\n")
    return {k: counters[k] for k in ("puts", "gets", "heads", "lists", "deletes", "maps", "bytes_put", "bytes_got")}


def test_clone_copies_nothing(env):
    """Requests and bytes of a clone do not depend on how much there is."""
    small, large = clone_cost(env, 1400), clone_cost(env, 140_000)
    for key in small:
        if key.startswith("bytes_"):  # numbers in the root are a few digits longer
            check(abs(small[key] - large[key]) <= 256, key, small, large)
        else:
            equal(large[key], small[key], key)
    print(f"requests {sum(v for k, v in small.items() if not k.startswith('bytes'))}, bytes put {small['bytes_put']}")


test_clone_copies_nothing.timeout = 300


def test_clone_after_rename(env):
    """The kernel remembers the snapshot below the collection's old name, and in another mount below the clone's."""
    m, other = env.mount(), env.mount(name="other")
    m.make("a", docs=[{"id": "1"}])
    os.mkdir(m("a/snapshots/s"))
    for old, new in (("a", "b"), ("b", "a")):
        os.rename(m(old), m(new))
        os.rename(m(f"{new}/snapshots/s"), m(f"clone-{new}"))
        equal(other.ids(new, "*:*"), ["1"])
        os.rename(other(f"{new}/snapshots/s"), other(f"other-{new}"))
    equal(sorted(n for n in os.listdir(m.point) if "-" in n), ["clone-a", "clone-b", "other-a", "other-b"])
