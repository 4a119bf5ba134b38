"""An index added to a collection with documents is filled in by the mount: visible, never a wrong answer, and after
kill -9 the next one goes on."""
import errno
import json
import threading

from harness import MODE, check, equal, wait_for

SEGMENTS = 7
DOCS = {"quick": 300, "normal": 1500, "long": 10000}[MODE]  # a segment
OLD = {"dynamic": False, "indexConfigs": {"title": {"type": "text"}}}
NEW = {"dynamic": False, "indexConfigs": {
    "title": {"type": "text"}, "body": {"type": "text", "analyzers": ["standard", "english"]},
    "year": {"type": "long"}, "tag": {"type": "keyword"}, "vec": {"type": "vector", "dimensions": 4}}}
SPECS = ("year:[1905 TO 1907]?size=50&format=json", "body:(ships sail)?size=50", "tag:t3 AND title:title?format=count",
         "*:*?facet=tag,year&size=0", "*:*?near=d00001&field=vec&size=9", "*:*?sort=year:desc,_id&size=20")


def doc(i):
    return {"id": f"d{i:05}", "title": f"title {i % 10}", "year": 1900 + i % 23, "tag": f"t{i % 6}",
            "body": f"a ship sailed {i % 4} seas, ships sail {'often ' * (i % 5)}", "vec": [i % 3 + 1, i % 5, 1, i % 7]}


def fill(env, m, name, schema):
    m.make(name, schema)
    for s in range(SEGMENTS):
        m.load(name, [doc(i) for i in range(s * DOCS, (s + 1) * DOCS)])
        env.ldbfs("build", name)


def indexing(m, name="c"):
    return m.status(name)["indexing"]


def answers(m, name):
    out = []
    for spec in SPECS:
        text = m.ask(name, spec)
        if "format=json" in spec:
            text = {k: v for k, v in json.loads(text).items() if k != "took"}
        out.append(json.loads(json.dumps(text).replace(f'\\"{name}\\"', '\\"c\\"').replace(f'"{name}"', '"c"')))
    return out


def test_backfill(env):
    m = env.mount("--build-age=-1")
    fill(env, m, "whole", NEW)
    fill(env, m, "c", OLD)
    equal(indexing(m), [])
    want = answers(m, "whole")
    wrong, stop = [], threading.Event()

    def watch():
        """Every answer is the right one or EBUSY."""
        while not stop.is_set():
            try:
                got = m.ask("c", SPECS[2])
                if got != m.ask("whole", SPECS[2]):
                    wrong.append(got)
            except OSError as e:
                if e.errno not in (errno.EBUSY, errno.EINVAL):
                    wrong.append(e)

    with open(m("c/schema.json"), "w") as f:
        f.write(json.dumps(NEW))
    watcher = threading.Thread(target=watch)
    watcher.start()
    seen = indexing(m)
    wait_for("the back-fill", lambda: not indexing(m), 60)
    stop.set()
    watcher.join()
    check(not wrong, "while it ran:", wrong[:3])
    check(all(set(s) == {"field", "segments_left", "documents_left"} for s in seen), seen)
    equal(answers(m, "c"), want)
    env.ldbfs("build", "--full", "c")
    equal(answers(m, "c"), want)


def test_killed(env):
    m = env.mount("--build-age=-1")
    fill(env, m, "whole", NEW)
    fill(env, m, "c", OLD)
    want = answers(m, "whole")
    with open(m("c/schema.json"), "w") as f:
        f.write(json.dumps(NEW))
    m.kill()
    before = json.loads(env.ldbfs("status", "--json", "c"))["indexing"]
    check(before, "it was done before the kill")
    m.start()
    wait_for("a first step", lambda: left(m) < left_of(before), 60)
    m.kill()
    middle = json.loads(env.ldbfs("status", "--json", "c"))["indexing"]
    check(left_of(middle) < left_of(before), "nothing was kept", before, middle)
    m.start()
    wait_for("the rest", lambda: not indexing(m), 60)
    equal(answers(m, "c"), want)
    m.stop()
    env.check_store()


def left_of(fields):
    return sum(f["segments_left"] for f in fields)


def left(m):
    return left_of(indexing(m))


def test_without_a_mount(env):
    """`ldbfs build` fills in what a mount that is gone has left."""
    m = env.mount("--build-age=-1")
    fill(env, m, "whole", NEW)
    fill(env, m, "c", OLD)
    want = answers(m, "whole")
    with open(m("c/schema.json"), "w") as f:
        f.write(json.dumps(NEW))
    m.kill()
    text = env.ldbfs("status", "c")
    check("indexing year:" in text and f"{SEGMENTS} segments left" in text, text)
    p = env.ldbfs("query", "c", "year:1905", status=None)
    check(p.returncode and "still being built" in p.stderr, p.stderr)
    env.ldbfs("build", "c")
    equal(json.loads(env.ldbfs("status", "--json", "c"))["indexing"], [])
    m.start()
    equal(answers(m, "c"), want)
