"""The same query has the same answer, whatever is built, merged, sharded, or asked from where: equal bytes."""
import json
import random

from harness import Failure, equal, has_options, name_of, read

SCHEMA = {"indexConfigs": {"title": {"type": "text", "analyzers": ["english"]}, "body": {"type": "text"},
                           "kind": {"type": "keyword"}, "n": {"type": "long"}, "x": {"type": "double"},
                           "ok": {"type": "boolean"}, "at": {"type": "datetime"},
                           "v": {"type": "vector", "dimensions": 8, "similarity": "euclidean"}}}
WORDS = ("whale ship sea captain storm island garden herb soup winter running runner runs boats ponies connection "
         "connected relational river stone light").split()
QUERIES = [
    "whale", "whale ship", "title:run", "title:running body:river", "body:whale AND body:ship", "+body:sea -title:whale",
    'body:"whale ship"', 'title:"connected river"~3', "body:wha*", "body:s?a", "title:connect*", "kind:k3", "kind:k*",
    "kind:[k2 TO k4}", "n:[100 TO 500]", "n:{100 TO *}", "x:[0.25 TO 0.5] OR whale", "ok:true AND whale",
    "at:[2024-01-05T00:00:00Z TO 2024-02-01T00:00:00Z]", "*:*", "title:*", "NOT whale", "whale^3 ship^0.5 storm",
    "(whale OR ship) AND (storm OR island) -stone", "whale?sort=n:desc", "storm?sort=kind:asc,n:desc", "*:*?sort=x:asc",
    "herb?from=15&size=25", "*:*?size=1000&fields=n,kind", "near=", "zebra",
]
OPTIONS = "size=40"


def operations(rng, n):
    """Upserts that overwrite, updates, deletes; fixed by the seed."""
    ops, live = [], set()
    for i in range(n):
        kind = rng.random()
        if live and kind < 0.12:
            ops.append(("delete", {"id": rng.choice(sorted(live))}))
            live.discard(ops[-1][1]["id"])
        elif live and kind < 0.24:
            ops.append(("update", {"id": rng.choice(sorted(live)), "title": text(rng, 6), "n": rng.randrange(1000)}))
        else:
            doc = {"id": f"doc-{rng.randrange(n // 2):04}", "title": text(rng, rng.randrange(1, 12)),
                   "body": text(rng, rng.randrange(1, 120)), "kind": f"k{rng.randrange(6)}", "n": rng.randrange(1000),
                   "x": rng.random(), "ok": rng.random() < 0.5, "at": f"2024-0{rng.randrange(1, 4)}-1{rng.randrange(10)}T0"
                   f"{rng.randrange(10)}:00:00Z", "v": [round(rng.uniform(-1, 1), 3) for _ in range(8)]}
            ops.append(("upsert", doc))
            live.add(doc["id"])
    return ops, sorted(live)


def text(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def apply(m, ops):
    start = 0
    for i in range(1, len(ops) + 1):
        if i == len(ops) or ops[i][0] != ops[start][0]:
            m.load("c", [o[1] for o in ops[start:i]], ops[start][0])
            start = i


def ask_all(folder, live):
    answers = {}
    for q in QUERIES:
        spec = f"*:*?near={live[3]}&field=v" if q == "near=" else q
        if "size=" not in spec:
            spec += ("&" if has_options(spec) else "?") + OPTIONS
        try:
            answers[spec] = read(f"{folder}/query/{name_of(spec)}")
            whole = json.loads(read(f"{folder}/query/{name_of(spec + '&format=json')}"))
        except OSError as e:
            raise Failure(f"{spec}: {e}") from None
        whole.pop("took", None)
        answers[spec + " whole"] = whole
    return answers


def test_same_answer(env):
    ops, live = operations(random.Random(env.seed), 900)
    m = env.mount("--build-age=-1")
    m.make("c", SCHEMA)
    apply(m, ops)
    states = {"all in the log": ask_all(m("c"), live)}
    want = states["all in the log"]
    equal(json.loads(m.ask("c", "*:*?format=json"))["total"], len(live), "documents")

    def compare(state, folder):
        got = ask_all(folder, live)
        for spec, answer in want.items():
            equal(got[spec], answer, state, spec)

    m.sh("mkdir c/snapshots/then")
    compare("in a snapshot", m("c/snapshots/then"))
    env.ldbfs("build", "c")
    compare("built", m("c"))
    for shards in (1, 2, 7):
        env.ldbfs("build", "--shards", str(shards), "c")
        compare(f"{shards} shards", m("c"))
    second = env.mount("--build-age=-1", name="second")
    compare("second mount", second("c"))
    env.ldbfs("build", "--full", "c")
    for shards in (7, 1):
        env.ldbfs("build", "--shards", str(shards), "c")
        compare(f"merged, {shards} shards", m("c"))
    compare("second mount, merged", second("c"))
    compare("in the snapshot, after all", m("c/snapshots/then"))
    m.stop()
    m.start()
    compare("after a remount", m("c"))

    half = env.path("half")
    h = env.mount("--build-age=-1", data=half, name="half-mnt")
    h.make("c", SCHEMA)
    for part in range(0, 900, 100):
        apply(h, ops[part:part + 100])
        if part in (0, 200, 300, 500):
            env.ldbfs("build", "c", data=half)
            env.ldbfs("build", "--shards", "3", "c", data=half)
    compare("half built", h("c"))
    env.ldbfs("build", "c", data=half)
    compare("built in pieces", h("c"))
    env.ldbfs("build", "--merge", "c", data=half)
    compare("merged in pieces", h("c"))
    env.check_store()
    env.check_store(half)


test_same_answer.timeout = 240
