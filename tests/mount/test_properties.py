"""What holds for every query whatever the data: on random corpora, with writers beside the readers."""
import csv
import errno
import io
import json
import os
import struct
import sys
import threading

from harness import MODE, ROOT, check, equal
from test_reference import (CONFIGS, FIELDS, SIMILARITIES, TAGS, random_doc, random_knn, random_object,
                            random_sparse, random_text, run, vector)

sys.path.insert(0, os.path.join(ROOT, "tests/quality"))
import reference as ref  # noqa: E402

ROUNDS = {"quick": 10, "normal": 40, "long": 400}[MODE]


def start(env, count=160, shards="3"):
    """Half of the documents built, over several shards, the rest in the log; some replaced, some deleted."""
    docs = [random_doc(env.random, n) for n in range(count)]
    corpus = ref.Corpus(FIELDS, docs)
    m = env.mount("--build-age=-1")
    m.make("c", {"indexConfigs": CONFIGS}, docs[:count // 2])
    env.ldbfs("build", "--shards", shards, "c")
    m.load("c", docs[count // 2:])
    for n in env.random.sample(range(count), 10):
        new = random_doc(env.random, n)
        corpus.put(new)
        m.load("c", [new])
    for n in env.random.sample(range(count), 10):
        corpus.delete(f"d{n:03}")
        m.load("c", [{"id": f"d{n:03}"}], "delete")
    return m, corpus


def answer(m, query, **more):
    return run(m, {"query": query.json(), "size": 1000, "format": "json", **more})


def ids(found):
    return [h["doc"]["id"] for h in found["docs"]]


def test_sets(env):
    m, _ = start(env)
    everything = set(ids(answer(m, ref.All())))
    for _ in range(ROUNDS):
        a, b = random_text(env.random), random_text(env.random)
        found = {name: set(ids(answer(m, q))) for name, q in (
            ("a", a), ("b", b), ("both", ref.Bool([("must", a), ("must", b)])),
            ("either", ref.Bool([("should", a), ("should", b)])),
            ("without", ref.Bool([("must", a), ("must_not", b)])), ("filter", ref.Bool([("filter", a)])))}
        text = f"{a.text()} / {b.text()}"
        equal(found["both"], found["a"] & found["b"], text, "and")
        equal(found["either"], found["a"] | found["b"], text, "or")
        equal(found["without"], found["a"] - found["b"], text, "not")
        equal(found["filter"], found["a"], text, "filter")
        check(found["a"] <= everything, text)
        equal(m.ask("c", a.text() + "?format=count"), f"{len(found['a'])}\n", text, "count")


def test_totals_equal_a_scan(env):
    m, corpus = start(env)
    docs = m.docs("c")
    equal(docs, corpus.docs, "documents")
    for tag in TAGS:
        want = sum(tag in (d.get("tag") if isinstance(d.get("tag"), list) else [d.get("tag")]) for d in docs.values())
        for size in (0, 1, 1000):
            got = json.loads(m.ask("c", f"tag:{tag}?format=json&size={size}"))
            equal((got["total"], len(got["docs"])), (want, min(size, want)), tag, size)
    low = sum(isinstance(d.get("x"), (int, float)) and d["x"] < 1 for d in docs.values())
    equal(json.loads(m.ask("c", "x<1?format=json&size=0"))["total"], low)


def test_pages(env):
    """Pages of one state, with a writer beside: no document twice, none missing. And sorting is sorting everything."""
    m, _ = start(env)
    os.mkdir(m("c/snapshots/still"))
    stop, failed = threading.Event(), []

    def write():
        try:
            while not stop.is_set():
                m.load("c", [random_doc(env.random, n) for n in range(0, 200, 7)])
        except OSError as e:
            failed.append(e)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for spec in ("*:*", "body:whale body:sea", "n:[-10 TO *]"):
            for sort in ("_score", "n:desc,_id", "tag,x:desc", "who.name:desc"):
                for size in (7, 50):
                    pages(m, spec, sort, size)
    finally:
        stop.set()
        writer.join()
    check(not failed, "the writer:", *failed)


def pages(m, spec, sort, size):
    base, got, at = f"c/snapshots/still/query/{spec}?sort={sort}&format=ids", [], 0
    with open(m(f"{base}&size=1000")) as f:
        whole = f.read().split()
    while True:
        with open(m(f"{base}&size={size}&from={at}")) as f:
            page = f.read().split()
        got += page
        at += size
        if not page:
            break
    equal(got, whole, spec, sort, size)
    equal(len(set(got)), len(got), spec, sort, "twice")


def test_hybrid_pages(env):
    """Pages of a hybrid are parts of one list, whatever their size, up to the end of its window."""
    m, corpus = start(env, 300)
    for kind in ("rrf", "mm", "l2"):
        query = ref.Fuse(kind, [ref.Phrase("body", ["whale"]), random_knn(env.random)])
        text = json.dumps(query.json())
        for size, window in ((10, 100), (7, 40), (30, 90), (20, 300)):
            body = {"query": query.json(), "format": "json", "window": window}
            whole = run(m, {**body, "size": window})["docs"]
            got = []
            for at in range(0, window - size + 1, size):
                got += run(m, {**body, "size": size, "from": at})["docs"]
            equal(got, whole[:len(got)], text, size, window)
            check(len(got) >= min(len(whole), window - size + 1), text, size, window, len(got), len(whole))
            try:
                run(m, {**body, "size": size, "from": window - size + 1})
                check(False, "a page beyond the window", text, window)
            except OSError as e:
                equal(e.errno, errno.EINVAL, text)
        plain = run(m, {"query": query.json(), "format": "json", "from": 90})["docs"]  # the window is 100 by itself
        equal(plain, run(m, {"query": query.json(), "format": "json", "size": 100})["docs"][90:], text)


def test_facets(env):
    """Counts add up, whatever is shown, and each is the total of the query narrowed to the value."""
    m, corpus = start(env)
    for _ in range(ROUNDS // 2):
        query = random_text(env.random)
        found = answer(m, query, facet=["tag", "n", "who.name"], facets=1000, size=0)
        for f in found["facets"]:
            with_value = sum(bool(corpus.values(f["field"]).get(i)) for i in query.hits(corpus))
            equal(found["total"] - f["missing"], with_value, query.text(), f["field"], "missing")
            equal(f["other"], 0, f["field"])
            counts = [v["count"] for v in f["values"]]
            equal(counts, sorted(counts, reverse=True), f["field"], "order")
            few = run(m, {"query": query.json(), "facet": f["field"], "facets": 2, "size": 0, "format": "json"})["facets"][0]
            equal(few["values"], f["values"][:2], query.text(), f["field"])
            equal(few["other"], sum(counts[2:]), query.text(), f["field"], "other")
            for v in f["values"][:3]:
                value = json.dumps(v["value"], ensure_ascii=False)
                narrow = {"bool": [{**query.json(), "occur": "must"},
                                   {"queryString": {"query": f"{f['field']}:{value}"}, "occur": "filter"}]}
                equal(run(m, {"query": narrow, "size": 0, "format": "json"})["total"], v["count"], f["field"], value)
    lines = [json.loads(line) for line in m.ask("c", "*:*?size=2&facet=tag,flag&facets=3").splitlines()]
    equal([sorted(line) for line in lines], [["collection", "doc", "score"]] * 2 + [["field", "missing", "other", "values"]] * 2)
    equal([line["field"] for line in lines[2:]], ["tag", "flag"])
    check(all(isinstance(v["value"], bool) for v in lines[3]["values"]), lines[3])


def test_shards_show_nowhere(env):
    m, _ = start(env, shards="1")
    queries = [env.random.choice([random_object, random_text, fused])(env.random) for _ in range(ROUNDS)]
    bodies = [{"query": q.json(), "size": 40, "facet": ["tag", "x"], "explain": True} for q in queries]

    def all_answers():
        out = []
        for body in bodies:
            fd = os.open(m("c/query/.run"), os.O_RDWR)
            os.write(fd, json.dumps(body).encode())
            out.append(os.read(fd, 1 << 22))
            os.close(fd)
        return out

    first = all_answers()
    for shards in ("2", "7"):
        env.ldbfs("build", "--shards", shards, "c")
        for body, a, b in zip(bodies, first, all_answers()):
            equal(b, a, "with", shards, "shards:", json.dumps(body))
    env.ldbfs("build", "--full", "c")
    for body, a, b in zip(bodies, first, all_answers()):
        equal(b, a, "merged:", json.dumps(body))


def test_knn(env):
    """Exact: the brute-force neighbours; a filter never costs hits."""
    m, corpus = start(env)
    for _ in range(ROUNDS):
        field, rng = env.random.choice(SIMILARITIES), env.random
        k = rng.choice([1, 3, 10, 50, 1000])
        only = random_text(rng, 1) if rng.random() < 0.7 else None
        query = ref.Knn(field, vector(rng, field), k, only)
        scores = query.all(corpus)
        got = answer(m, query)
        what = json.dumps(query.json())
        equal(len(got["docs"]), min(k, len(scores)), what)
        equal(got["total"], len(got["docs"]), what)
        best = sorted(scores.values(), reverse=True)
        for rank, hit in enumerate(got["docs"]):
            i = hit["doc"]["id"]
            check(abs(hit["score"] - scores[i]) < 1e-5 * max(1, abs(scores[i])), what, i, hit["score"], scores[i])
            check(abs(scores[i] - best[rank]) < 1e-5 * max(1, abs(best[rank])), what, "not the nearest:", i)


# ---- explain ----

def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def same(a, b):
    return struct.pack("f", a) == struct.pack("f", b)


def recompute(node, exact):
    """The value of a node from the numbers below it, step by step; equal to the bit."""
    value, text, details = node["value"], node["description"], node["details"]
    if text.startswith("weight of "):
        boost, weights, tf = details
        part = {d["description"].split(",")[0]: d["value"] for d in tf["details"]}
        k1, b = f32(part["k1"]), f32(part["b"])
        inner = f32(f32(1 - b) + f32(f32(b * f32(part["dl"])) / f32(part["avgdl"])))
        inverse = f32(1 / f32(k1 * inner))
        weight = f32(f32(boost["value"]) * f32(recompute(weights, exact)))
        check(same(value, f32(weight - f32(weight / f32(1 + f32(f32(part["freq"]) * inverse))))), "score", node)
        check(same(tf["value"], f32(1 - f32(1 / f32(1 + f32(f32(part["freq"]) * inverse))))), "tf", node)
    elif text.startswith("idf of "):
        n, all_docs = (d["value"] for d in details)
        check(same(value, ref.idf(n, all_docs)), "idf", node)
    elif text.endswith("sum of:") and text.split(",")[0] not in ("rrf", "mm", "l2"):
        check(same(value, f32(sum(f32(recompute(d, exact)) for d in details))), "sum", node)
    elif text.endswith("sum of:"):
        check(same(value, f32(sum(recompute(d, exact) for d in details))), "fused", node)
    elif text.startswith("side "):
        part = {d["description"].split()[0].strip(","): d["value"] for d in details[1:]}
        score, rank = f32(recompute(details[0], exact)), part["rank"]
        if "60 + rank" in text:
            equal(value, 61 / 2 / (60 + rank), node)
        elif "length" in text:
            equal(value, part["weight"] * (score / part["length"]), node)
        else:
            span = part["greatest"] - part["least"]
            share = (score - part["least"]) / span if span else 1
            check(abs(value - part["weight"] * (share or 0.001)) < 1e-12, node)
    elif "boost * the sum of the others" in text:
        for token in details[1:]:
            equal(token["value"], f32(token["details"][0]["value"]) * f32(token["details"][1]["value"]), token)
        total = f32(sum(token["value"] for token in details[1:]))
        check(same(value, f32(f32(details[0]["value"]) * total)), "sparse", node)
    elif "boost * similarity" in text:
        check(same(value, f32(f32(details[0]["value"]) * f32(details[1]["value"]))), "knn", node)
        check(details[2]["value"] >= 1, "rank", node)
    else:
        exact.append(text)
    return value


def fused(rng):
    return ref.Fuse(rng.choice(["rrf", "mm", "l2"]), [rng.choice([random_text, random_sparse])(rng), random_knn(rng)])


def test_explain(env):
    m, _ = start(env)
    texts = []
    for _ in range(ROUNDS):
        query = env.random.choice([random_text, random_object, random_knn, random_sparse, fused])(env.random)
        got = answer(m, query, explain=True, size=30)
        plain = answer(m, query, size=30)
        for hit, other in zip(got["docs"], plain["docs"]):
            check(same(hit["explain"]["value"], hit["score"]), "root", hit)
            recompute(hit["explain"], texts)
            equal({k: v for k, v in hit.items() if k != "explain"}, other)
    for line in m.ask("c", "body:whalr~^3?explain=true&size=50").splitlines():  # a bool of the words it stands for
        hit = json.loads(line)
        check(same(hit["explain"]["value"], hit["score"]), "root", hit)
        recompute(hit["explain"], texts)
    for line in m.ask("c", "body:whale AND n:[0 TO *]^2?explain=true&size=3").splitlines():
        tree = json.loads(line)["explain"]
        recompute(tree, texts)
        equal([d["description"].split(",")[0].split(" of ")[0] for d in tree["details"]][0], "weight", line)
        equal(tree["details"][1]["value"], 2, line)
    check(any("constant score" in t for t in texts), "no constant was met", texts[:3])


# ---- rows ----

def test_rows(env):
    m = env.mount()
    docs = [{"id": "a", "t": 'say "hi", \\ there', "n": 1.50, "o": {"k": [1, {"z": None}]}},
            {"id": "b", "t": "two\nlines\tand a tab", "n": -20, "more": True},
            {"id": "c", "t": "", "n": None, "o": [{"k": 7}, {"k": "x"}]},
            {"id": "日本", "t": "漢字かな交じり文" * 6, "n": 3}]
    m.make("c", docs=docs)
    rows = list(csv.reader(io.StringIO(m.ask("c", "*:*?format=csv&sort=_id"), newline="")))
    equal(rows, [["id", "t", "n", "o", "more"], ["a", 'say "hi", \\ there', "1.5", '{"k":[1,{"z":null}]}', ""],
                 ["b", "two\nlines\tand a tab", "-20", "", "true"], ["c", "", "", '[{"k":7},{"k":"x"}]', ""],
                 ["日本", "漢字かな交じり文" * 6, "3", "", ""]])
    equal(m.ask("c", "*:*?format=csv&sort=_id").splitlines()[4][:5], 'c,"",')
    lines = m.ask("c", "*:*?format=tsv&sort=_id&fields=t,o.k").split("\n")
    equal(lines[:4], ["t\to.k", 'say "hi", \\\\ there\t[1,{"z":null}]', "two\\nlines\\tand a tab\t", '\t[7,"x"]'])
    table = m.ask("c", "*:*?format=table&sort=_id&fields=id,t,n").splitlines()
    equal(table[0].split(), ["id", "t", "n"])
    equal(set(table[1]), {"-", " "})
    equal(table[2], 'a     say "hi", \\ there                        1.5')
    equal(table[3], "b     two lines and a tab                      -20")
    equal(table[5], "日本  " + ("漢字かな交じり文" * 6)[:19] + "…    3")
    equal(m.ask("c", "t:nothing?format=table&fields=id,t"), "id  t\n--  -\n")
    equal(m.ask("c", "*:*?format=csv&fields=-t,-o,-more&sort=_id").splitlines()[:2], ["id,n", "a,1.5"])
    equal(m.ask("c", "*:*?format=count&size=1"), "4\n")
    env.ldbfs("query", "c", "*:*?format=csv&facet=n", status=1)
    env.ldbfs("query", "c", "*:*?format=ids&explain=true", status=1)
    env.ldbfs("query", "c", "*:*?facet=t", status=1)
    env.ldbfs("query", "c", "*:*?facets=0", status=1)
