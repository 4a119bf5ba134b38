"""Every query object against the reference of tests/quality/reference.py, on random corpora, while they change."""
import json
import os
import sys

from harness import MODE, ROOT, check, equal

sys.path.insert(0, os.path.join(ROOT, "tests/quality"))
import reference as ref  # noqa: E402

VOCABULARY = ("whale ship sea captain harpoon storm island garden herb soup recipe winter summer river mountain stone "
              "light dark morning evening whaler ships seas stormy").split()
TAGS = ["net", "games", "web", "mail", "science", "Text", "änd"]
TOKENS = ["alpha", "beta", "gamma", "delta", "ж"]
SIMILARITIES = ["cosine", "euclidean", "dot_product", "max_inner_product"]
DIMENSIONS = 6
TOLERANCE = 2e-6
CONFIGS = {"title": {"type": "text"}, "body": {"type": "text"}, "tag": {"type": "keyword"}, "n": {"type": "long"},
           "x": {"type": "double"}, "flag": {"type": "boolean"}, "sparse": {"type": "sparseVector"},
           "who": {"type": "object", "objectIndexConfigs": {"name": {"type": "keyword"}, "age": {"type": "long"}}},
           **{s: {"type": "vector", "dimensions": DIMENSIONS, "similarity": s} for s in SIMILARITIES}}
FIELDS = {"title": "text", "body": "text", "tag": "keyword", "n": "long", "x": "double", "flag": "boolean",
          "sparse": "sparse", "who.name": "keyword", "who.age": "long", **{s: ("vector", s) for s in SIMILARITIES}}


def maybe(rng, doc, name, make, chance=0.75):
    if rng.random() < chance:
        doc[name] = make()


def vector(rng):
    return [round(rng.gauss(0, 1), 3) for _ in range(DIMENSIONS)]


def unit(rng):
    v = vector(rng)
    return [x / sum(y * y for y in v) ** 0.5 for x in v]


def random_doc(rng, number):
    doc = {"id": f"d{number:03}"}
    maybe(rng, doc, "title", lambda: " ".join(rng.choices(VOCABULARY, k=rng.randrange(1, 7))))
    maybe(rng, doc, "body", lambda: " ".join(rng.choices(VOCABULARY, k=rng.choice([1, 3, 12, 39, 45, 120]))), 0.9)
    maybe(rng, doc, "tag", lambda: rng.choice(TAGS) if rng.random() < 0.6 else rng.choices(TAGS, k=3))
    maybe(rng, doc, "n", lambda: rng.randrange(-20, 20) if rng.random() < 0.8 else [rng.randrange(50), -3])
    maybe(rng, doc, "x", lambda: rng.choice([0.5, 2.25, -1e9, 3, rng.random()]))
    maybe(rng, doc, "flag", lambda: rng.random() < 0.5)
    maybe(rng, doc, "sparse", lambda: {t: rng.choice([0, 0.3, 1, 2.7183, 64]) for t in rng.sample(TOKENS, 3)})
    maybe(rng, doc, "who", lambda: [{"name": rng.choice(TAGS), "age": rng.randrange(9)}
                                    for _ in range(rng.randrange(1, 3))])
    for s in SIMILARITIES:
        maybe(rng, doc, s, lambda kind=s: unit(rng) if kind == "dot_product" else vector(rng), 0.8)
    return doc


def random_leaf(rng):
    boost = rng.choice([1, 1, 1, 0.5, 2.5])
    kind = rng.randrange(7)
    if kind < 3:
        return ref.Phrase(rng.choice(["title", "body"]), rng.choices(VOCABULARY, k=rng.choice([1, 1, 1, 2])), boost)
    if kind == 3:
        return ref.Phrase(rng.choice(["tag", "who.name"]), [rng.choice(TAGS)], boost)
    if kind == 4:
        pattern = rng.choice(["sh*", "*or*", "s?a*", "w*r", "e*"])
        return ref.Pattern(rng.choice(["title", "body", "tag"]), pattern, boost)
    if kind == 5:
        return ref.Exists(rng.choice(["title", "tag", "n", "flag"]))
    field = rng.choice(["n", "x", "who.age"])
    lo, hi = sorted(rng.choices([-3, 0, 2, 7, 19, 40], k=2))
    lo, hi = rng.choice([(lo, hi), (None, hi), (lo, None)])
    return ref.Range(field, lo, hi, rng.random() < 0.5, rng.random() < 0.5, boost)


def random_text(rng, depth=2):
    if not depth or rng.random() < 0.4:
        return random_leaf(rng)
    occurs = rng.choice([["should"], ["should", "must"], ["must"], ["should", "must", "must_not"]])
    clauses = [(rng.choice(occurs), random_text(rng, depth - 1)) for _ in range(rng.randrange(2, 4))]
    return ref.Bool(clauses, rng.choice([1, 1, 2]))


def random_knn(rng):
    field = rng.choice(SIMILARITIES)
    only = random_text(rng, 1) if rng.random() < 0.5 else None
    return ref.Knn(field, unit(rng) if field == "dot_product" else vector(rng), rng.choice([1, 5, 40, 400]), only)


def random_sparse(rng):
    return ref.Sparse("sparse", {t: rng.choice([0, 0.7, 1, 33.25]) for t in rng.sample(TOKENS, 2)} | {"beta": 2})


def random_object(rng, depth=2):
    kind = rng.randrange(6)
    if kind == 0:
        return random_knn(rng)
    if kind == 1:
        return random_sparse(rng)
    if kind == 2 or not depth:
        return random_text(rng)
    if kind == 3:
        return ref.All()
    clauses = [(rng.choice(["should", "should", "must", "filter", "must_not"]), random_object(rng, depth - 1))
               for _ in range(rng.randrange(1, 4))]
    for _, query in clauses:
        if isinstance(query, (ref.Knn, ref.Sparse)):
            query.boost = rng.choice([1, 0.25, 3])
    return ref.Bool(clauses)


def run(m, body):
    """Through query/.run, as a program would ask."""
    fd = os.open(m("c/query/.run"), os.O_RDWR)
    try:
        os.write(fd, json.dumps(body).encode())
        out = b""
        while True:
            piece = os.read(fd, 1 << 16)
            if not piece:
                return json.loads(out)
            out += piece
    finally:
        os.close(fd)


def close(a, b):
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b), 1e-6)


def compare_hits(answer, want, what, tolerance=0.0):
    got = {h["doc"]["id"]: h["score"] for h in answer["docs"]}
    equal(answer["total"], len(want), what, "total")
    equal(sorted(got), sorted(want), what)
    for i, s in want.items():
        check(close(got[i], s) or abs(got[i] - s) <= tolerance, f"{what}: {i} scores {got[i]!r}, the reference {s!r}")
    order = [h["doc"]["id"] for h in answer["docs"]]
    equal(order, sorted(order, key=lambda i: (-got[i], i.encode())), what, "order")
    if got:
        equal(answer["maxScore"], max(got.values()), what, "maxScore")


def blurred(corpus, query):
    """Whether rounding decides which documents are among the k nearest: then sets cannot be compared."""
    if isinstance(query, ref.Bool):
        return any(blurred(corpus, q) for _, q in query.clauses)
    if isinstance(query, ref.Fuse):
        sides = [list(q.hits(corpus).values()) or [0] for q in query.sides]
        narrow = query.kind == "mm" and any(max(s) > min(s) and close(max(s), min(s)) for s in sides)
        return narrow or any(blurred(corpus, q) for q in query.sides)
    if not isinstance(query, ref.Knn):
        return False
    scores = sorted(query.all(corpus).values(), reverse=True)
    k = query.k
    return len(scores) > k and close(scores[k - 1], scores[k])


def compare(m, corpus, query):
    if blurred(corpus, query):
        return
    want = query.hits(corpus)
    body = {"query": query.json(), "size": 1000, "format": "json", "fields": ["id"]}
    tolerance = 1e-5 if isinstance(query, ref.Fuse) else 0  # shares of a range
    compare_hits(run(m, body), want, json.dumps(query.json(), ensure_ascii=False), tolerance)
    if isinstance(query, ref.Bool) and query.has_text():
        compare_hits(json.loads(m.ask("c", query.text() + "?size=1000&format=json&fields=id")), want, query.text())


def compare_all(m, corpus, rng, rounds):
    for _ in range(rounds):
        compare(m, corpus, random_text(rng))
        compare(m, corpus, random_object(rng))
    compare(m, corpus, random_knn(rng))
    compare(m, corpus, random_sparse(rng))
    for kind in ("rrf", "mm", "l2"):
        weight = rng.choice([None, 0.25])
        weights = [weight, 1 - weight] if weight else None
        compare(m, corpus, ref.Fuse(kind, [random_text(rng), random_knn(rng)], weights))
        compare(m, corpus, ref.Fuse(kind, [random_sparse(rng), random_text(rng, 0)], weights))


def change(m, corpus, rng):
    """Replaces, patches and deletes some documents."""
    ids = sorted(corpus.docs)
    gone, patched, replaced = rng.sample(ids, 8), rng.sample(ids, 12), rng.sample(range(200), 12)
    m.load("c", [{"id": i} for i in gone], "delete")
    for i in gone:
        corpus.delete(i)
    patches = [{**{k: v for k, v in random_doc(rng, 0).items() if k != "id"}, "id": i}
               for i in patched if i in corpus.docs]
    m.load("c", patches, "update")
    for p in patches:
        corpus.patch(p)
    docs = [random_doc(rng, n) for n in replaced]
    m.load("c", docs)
    for d in docs:
        corpus.put(d)


def test_reference(env):
    rounds = {"quick": 8, "normal": 25, "long": 200}[MODE]
    rng = env.random
    docs = [random_doc(rng, n) for n in range(120)]
    corpus = ref.Corpus(FIELDS, docs)
    m = env.mount("--build-age=-1")
    m.make("c", {"indexConfigs": CONFIGS}, docs)
    compare_all(m, corpus, rng, rounds)
    env.ldbfs("build", "--shards", "3", "c")
    compare_all(m, corpus, rng, rounds)
    for step in range(3):
        change(m, corpus, rng)
        compare_all(m, corpus, rng, rounds)
        env.ldbfs("build", *(["--full"] if step == 1 else []), "c")
        compare_all(m, corpus, rng, rounds)


def test_sort_and_facets(env):
    rng = env.random
    docs = [random_doc(rng, n) for n in range(150)]
    corpus = ref.Corpus(FIELDS, docs)
    m = env.mount("--build-age=-1")
    m.make("c", {"indexConfigs": CONFIGS}, docs[:100])
    env.ldbfs("build", "--shards", "4", "c")
    m.load("c", docs[100:])
    for _ in range({"quick": 10, "normal": 40, "long": 300}[MODE]):
        query = random_text(rng)
        hits = query.hits(corpus)
        keys = [(f, rng.random() < 0.5) for f in rng.sample(["n", "x", "tag", "flag", "who.name", "_id", "_score"], 3)]
        body = {"query": query.json(), "size": 1000, "format": "json", "facets": 3, "facet": ["tag", "n", "flag", "x"],
                "sort": [{f: "desc" if d else "asc"} for f, d in keys]}
        answer = run(m, body)
        got = [h["doc"]["id"] for h in answer["docs"]]
        if "_score" not in dict(keys):  # equal scores in the engine may differ by rounding in the reference
            equal(got, ref.sort_ids(corpus, hits, keys), query.text(), keys)
        equal(sorted(got), sorted(hits), query.text())
        for shown in answer["facets"]:
            counts, missing = ref.facet(corpus, hits, shown["field"])
            equal([(v["value"], v["count"]) for v in shown["values"]], counts[:3], query.text(), shown["field"])
            equal((shown["other"], shown["missing"]), (sum(c for _, c in counts[3:]), missing), shown["field"])
