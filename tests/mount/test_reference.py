"""Every query object against the reference of tests/quality/reference.py, on random corpora, while they change."""
import datetime
import errno
import json
import os
import re
import sys

from harness import MODE, ROOT, check, equal, name_of
from test_embeddings import Fake, vector as embed

sys.path.insert(0, os.path.join(ROOT, "tests/quality"))
import reference as ref  # noqa: E402

VOCABULARY = ("whale ship sea captain harpoon storm island garden herb soup recipe winter summer river mountain stone "
              "light dark morning evening whaler ships seas stormy").split()
TAGS = ["net", "games", "web", "mail", "science", "Text", "änd"]
TOKENS = ["alpha", "beta", "gamma", "delta", "ж"]
SIMILARITIES = ["cosine", "euclidean", "dot_product", "max_inner_product"]
DIMENSIONS = {"cosine": 6, "dot_product": 33, "euclidean": 300, "max_inner_product": 96}  # less than a register, rests, no rest
TOLERANCE = 2e-6
NEAR_ONE = 2.0 ** -22  # some roundings of numbers up to 1: a cosine of -0.98 leaves no less in (1 + cosine) / 2
LETTERS = "abcd"
CONFIGS = {"title": {"type": "text"}, "body": {"type": "text"}, "tag": {"type": "keyword"}, "n": {"type": "long"},
           "x": {"type": "double"}, "flag": {"type": "boolean"}, "sparse": {"type": "sparseVector"},
           "word": {"type": "text"}, "code": {"type": "keyword"}, "at": {"type": "datetime"},
           "who": {"type": "object", "objectIndexConfigs": {"name": {"type": "keyword"}, "age": {"type": "long"}}},
           **{s: {"type": "vector", "dimensions": DIMENSIONS[s], "similarity": s} for s in SIMILARITIES}}
FIELDS = {"title": "text", "body": "text", "tag": "keyword", "n": "long", "x": "double", "flag": "boolean",
          "word": "text", "code": "keyword", "at": "datetime", "sparse": "sparse", "who.name": "keyword", "who.age": "long", **{s: ("vector", s) for s in SIMILARITIES}}


def maybe(rng, doc, name, make, chance=0.75):
    if rng.random() < chance:
        doc[name] = make()


def vector(rng, similarity):
    v = [round(rng.gauss(0, 1), 3) for _ in range(DIMENSIONS[similarity])]
    length = sum(x * x for x in v) ** 0.5 if similarity == "dot_product" else 1
    return [x / length for x in v]


def letters(rng):
    return "".join(rng.choices(LETTERS, k=rng.randrange(1, 6)))


def moment(rng):
    second = rng.choice(["00", "00", "59.5", "07.1239"])
    return f"20{rng.choice(['09', '24'])}-02-{rng.randrange(10, 13)}T{rng.choice(['00', '23'])}:30:{second}{rng.choice(['Z', '+09:00'])}"


def random_doc(rng, number):
    doc = {"id": f"d{number:03}"}
    maybe(rng, doc, "title", lambda: " ".join(rng.choices(VOCABULARY, k=rng.randrange(1, 7))))
    maybe(rng, doc, "body", lambda: " ".join(rng.choices(VOCABULARY, k=rng.choice([1, 3, 12, 39, 45, 120]))), 0.9)
    maybe(rng, doc, "tag", lambda: rng.choice(TAGS) if rng.random() < 0.6 else rng.choices(TAGS, k=3))
    maybe(rng, doc, "n", lambda: rng.randrange(-20, 20) if rng.random() < 0.8 else [rng.randrange(50), -3])
    maybe(rng, doc, "x", lambda: rng.choice([0.5, 2.25, -1e9, 3, rng.random()]))
    maybe(rng, doc, "word", lambda: " ".join(letters(rng) for _ in range(rng.randrange(1, 9))))
    maybe(rng, doc, "code", lambda: letters(rng) if rng.random() < 0.7 else [letters(rng), letters(rng)])
    maybe(rng, doc, "at", lambda: moment(rng) if rng.random() < 0.7 else [moment(rng), moment(rng)])
    maybe(rng, doc, "flag", lambda: rng.random() < 0.5)
    maybe(rng, doc, "sparse", lambda: {t: rng.choice([0, 0.3, 1, 2.7183, 64]) for t in rng.sample(TOKENS, 3)})
    maybe(rng, doc, "who", lambda: [{"name": rng.choice(TAGS), "age": rng.randrange(9)}
                                    for _ in range(rng.randrange(1, 3))])
    for s in SIMILARITIES:
        maybe(rng, doc, s, lambda kind=s: vector(rng, kind), 0.8)
    return doc


# Expressions, and what they mean said another way.
EXPRESSIONS = [
    ("/sh.*|.*er/", lambda t: t.startswith("sh") or t.endswith("er")), ("/[a-m]{4}/", re.compile("[a-m]{4}").fullmatch),
    ("/s(to|e)?[rma]+y?/", re.compile("s(to|e)?[rma]+y?").fullmatch), ("/(ab|cd?)+/", re.compile("(ab|cd?)+").fullmatch),
    ("/[^a-c]+/", re.compile("[^a-c]+").fullmatch), ("/.{3,5}/", lambda t: 3 <= len(t) <= 5), ("/@a@/", lambda t: "a" in t),
    ("/s.*&~(.*s)/", lambda t: t.startswith("s") and not t.endswith("s")), ("/~(.*[aeiou].*)/", lambda t: not set(t) & set("aeiou")),
    ("/(s~(.*e)|m)(.*&...)/", lambda t: t[:-3] == "m" or t[0] == "s" and len(t) > 3 and t[-4] != "e"),
    ("/.\\w?\"b\".*/", re.compile(".[a-zA-Z0-9_]?b.*", re.S).fullmatch), ("/#|()|ä.*/", lambda t: t.startswith("ä"))]


def random_range(rng):
    boost = rng.choice([1, 1, 0.5, 2.5])
    field = rng.choice(["n", "x", "who.age", "at", "tag", "title"])
    show = str
    if field == "at":
        pair = [ref.milliseconds(moment(rng)) for _ in range(2)]
        show = iso
    elif field in ("tag", "title"):
        pair = rng.choices(["a", "games", "net", "sea", "ships", "web", "ä"], k=2)
    else:
        pair = rng.choices([-3, 0, 2, 7, 19, 40], k=2)
    lo, hi = sorted(pair)
    lo, hi = rng.choice([(lo, hi), (None, hi), (lo, None)])
    return ref.Range(field, lo, hi, rng.random() < 0.5, rng.random() < 0.5, boost, show)


def iso(ms):
    when = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
    return f'"{when:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"'


def random_leaf(rng):
    boost = rng.choice([1, 1, 1, 0.5, 2.5])
    kind = rng.randrange(11)
    if kind < 2:
        return ref.Phrase(rng.choice(["title", "body"]), rng.choices(VOCABULARY, k=rng.choice([1, 1, 1, 2])), boost)
    if kind == 2:
        return ref.Phrase("word", rng.choices(LETTERS, k=rng.choice([1, 2])), boost)
    if kind == 3:
        return ref.Phrase(rng.choice(["tag", "who.name"]), [rng.choice(TAGS)], boost)
    if kind == 4:
        pattern = rng.choice(["sh*", "*or*", "s?a*", "w*r", "e*", "?b*", "a?"])
        return ref.Pattern(rng.choice(["title", "body", "tag", "word", "code"]), pattern, boost)
    if kind == 5:
        return ref.Exists(rng.choice(["title", "tag", "n", "flag", "at", "who.age"]))
    if kind == 6:  # few words and long texts: many overlapping matches; repeated words
        words = rng.choices(VOCABULARY[:3], k=rng.randrange(2, 5))
        return ref.Phrase("body", words, boost, rng.choice([1, 2, 3, 7, 100]))
    if kind == 7:
        field, word = rng.choice([("word", letters(rng)), ("code", letters(rng)), ("body", rng.choice(["whalr", "hsip", "sa"]))])
        return ref.Fuzzy(field, word, rng.choice([None, 1, 2]), boost)
    if kind == 8:
        pattern, accepts = rng.choice(EXPRESSIONS)
        return ref.Pattern(rng.choice(["title", "tag", "word", "code"]), pattern, boost, accepts)
    return random_range(rng)


def random_text(rng, depth=2):
    if not depth or rng.random() < 0.4:
        return random_leaf(rng)
    occurs = rng.choice([["should"], ["should", "must"], ["must"], ["should", "must", "must_not"]])
    clauses = [(rng.choice(occurs), random_text(rng, depth - 1)) for _ in range(rng.randrange(2, 4))]
    optional = sum(o == "should" for o, _ in clauses)
    return ref.Bool(clauses, rng.choice([1, 1, 2]), rng.randrange(1, optional + 1) if optional > 1 and rng.random() < 0.3 else 0)


def random_knn(rng):
    field = rng.choice(SIMILARITIES)
    only = random_text(rng, 1) if rng.random() < 0.5 else None
    return ref.Knn(field, vector(rng, field), rng.choice([1, 5, 40, 400]), only)


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


def run(m, body, name="c"):
    """Through query/.run, as a program would ask."""
    fd = os.open(m(name, "query/.run"), os.O_RDWR)
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


def run_somehow(m, rng, body):
    """The same by the ways a shell has: a saved query, or the object as the name of a file."""
    way, text = rng.randrange(3), json.dumps(body)
    if way == 0:
        with open(m("c/queries/saved.json"), "w") as f:
            f.write(text)
        with open(m("c/query/@saved")) as f:
            return json.load(f)
    if way == 1 and len(name_of(text)) < 3000:
        return json.loads(m.ask("c", text))
    return run(m, body)


def close(a, b):
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b), 1e-6)


def exact(query):
    """Only vectors are free in their order of summation; everything else is equal to the bit."""
    if isinstance(query, ref.Bool):
        return all(exact(q) for _, q in query.clauses)
    return not isinstance(query, (ref.Knn, ref.Fuse))


def compare_hits(answer, want, what, tolerance=0.0, to_the_bit=False):
    """tolerance: an absolute one that is enough, too."""
    got = {h["doc"]["id"]: h["score"] for h in answer["docs"]}
    equal(answer["total"], len(want), what, "total")
    equal(sorted(got), sorted(want), what)
    for i, s in want.items():
        same = ref.bits(got[i]) == ref.bits(s) if to_the_bit else close(got[i], s) or abs(got[i] - s) <= tolerance
        check(same, f"{what}: {i} scores {got[i]!r}, the reference {s!r}")
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
    return len(scores) > k and (close(scores[k - 1], scores[k]) or scores[k - 1] - scores[k] <= NEAR_ONE)


def compare_page(m, whole, body, rng):
    """Few hits are the first of all, and as many are counted."""
    size, at = rng.choice([0, 1, 3, 10]), rng.choice([0, 0, 2, 40])
    page = run(m, {**body, "size": size, "from": at} | ({"window": 1000} if body["query"].keys() & {"rrf", "mm", "l2"} else {}))
    what = json.dumps(body, ensure_ascii=False)
    equal(page["docs"], whole["docs"][at:at + size], what, size, at)
    equal((page["total"], page["maxScore"]), (whole["total"], whole["maxScore"]), what, size, at)


def compare(m, corpus, query):
    rng = m.env.random
    if blurred(corpus, query):
        return
    want = query.hits(corpus)
    body = {"query": query.json(), "size": 1000, "format": "json", "fields": ["id"]}
    tolerance = 1e-5 if isinstance(query, ref.Fuse) else NEAR_ONE  # shares of a range
    whole = run_somehow(m, rng, body)
    compare_hits(whole, want, json.dumps(query.json(), ensure_ascii=False), tolerance, exact(query))
    compare_page(m, whole, body, rng)
    if isinstance(query, ref.Bool) and query.has_text():
        answer = json.loads(m.ask("c", query.text() + "?size=1000&format=json&fields=id"))
        compare_hits(answer, want, query.text(), to_the_bit=True)


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


def compare_through_changes(env):
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


def test_reference(env):
    compare_through_changes(env)


def test_reference_without_simd(env):
    env.environ["LDBFS_SIMD"] = "plain"
    compare_through_changes(env)


def test_reference_sse(env):
    env.environ["LDBFS_SIMD"] = "sse4.2"
    compare_through_changes(env)


def test_reference_avx2(env):
    env.environ["LDBFS_SIMD"] = "avx2"
    compare_through_changes(env)


def compare_long_lists(env):
    """Words in thousands of documents: where the best hits are found without a look at every one, they are still the best."""
    rng = env.random
    count = {"quick": 1500, "normal": 3000, "long": 20000}[MODE]
    many = VOCABULARY + [f"w{n}" for n in range(60)]
    weights = [1 / (n + 1) for n in range(len(many))]
    docs = [{"id": f"{rng.randrange(1 << 30):08x}{n}", "body": " ".join(rng.choices(many, weights, k=rng.choice([2, 5, 20, 60]))),
             "tag": rng.choice(TAGS), "n": rng.randrange(1000)} for n in range(count)]
    corpus = ref.Corpus({"body": "text", "tag": "keyword", "n": "long"}, docs)
    m = env.mount("--build-age=-1")
    m.make("c", {"indexConfigs": {f: CONFIGS[f] for f in ("body", "tag", "n")}}, docs[:count * 2 // 3])
    env.ldbfs("build", "--shards", "2", "c")
    m.load("c", docs[count * 2 // 3:count * 9 // 10])
    env.ldbfs("build", "c")
    m.load("c", docs[count * 9 // 10:])
    gone = rng.sample(sorted(corpus.docs), count // 20)
    m.load("c", [{"id": i} for i in gone], "delete")
    for i in gone:
        corpus.delete(i)

    def leaf():
        kind, boost = rng.randrange(8), rng.choice([1, 1, 0.5, 3])
        if kind < 5:
            return ref.Phrase("body", [rng.choice(many) if kind else many[rng.randrange(4)]], boost)
        if kind == 5:
            return ref.Phrase("body", rng.choices(many[:12], k=2), boost, rng.choice([0, 0, 3]))
        return ref.Phrase("tag", [rng.choice(TAGS)], boost) if kind == 6 else ref.Range("n", rng.randrange(1000), None)

    def tree(depth):
        occurs = rng.choice([["should"], ["should"], ["must"], ["should", "must", "must_not", "filter"]])
        return ref.Bool([(rng.choice(occurs), tree(depth - 1) if depth and rng.random() < 0.2 else leaf())
                         for _ in range(rng.randrange(1, 6))])

    for _ in range({"quick": 8, "normal": 25, "long": 60}[MODE]):
        query = tree(1)
        want, what = query.hits(corpus), json.dumps(query.json())
        order = ref.ranked(want)
        for size, at in ((10, 0), (rng.choice([1, 3, 100]), 0), (5, 200)):
            answer = run(m, {"query": query.json(), "size": size, "from": at, "format": "json", "fields": ["id"]})
            equal([(h["doc"]["id"], ref.bits(h["score"])) for h in answer["docs"]],
                  [(i, ref.bits(want[i])) for i in order[at:at + size]], what, size, at)
            equal(answer["total"], len(want), what, "total")


def test_long_lists(env):
    compare_long_lists(env)


def test_long_lists_without_simd(env):
    env.environ["LDBFS_SIMD"] = "plain"
    compare_long_lists(env)


SORT_FIELDS = ["n", "x", "tag", "flag", "who.name", "who.age", "code", "at", "_id", "_score"]


def test_sort_and_facets(env):
    rng = env.random
    docs = [random_doc(rng, n) for n in range(150)]
    corpus = ref.Corpus(FIELDS, docs)
    m = env.mount("--build-age=-1")
    m.make("c", {"indexConfigs": CONFIGS}, docs[:100])
    env.ldbfs("build", "--shards", "4", "c")
    m.load("c", docs[100:])
    for step in range({"quick": 20, "normal": 60, "long": 400}[MODE]):
        query = random_object(rng) if step % 3 == 0 else random_text(rng)
        if blurred(corpus, query):
            continue
        hits = query.hits(corpus)
        names = [SORT_FIELDS[step % len(SORT_FIELDS)]] + rng.sample(SORT_FIELDS, 3)
        keys = [(f, rng.random() < 0.5) for f in dict.fromkeys(names)]
        body = {"query": query.json(), "size": 1000, "format": "json", "facets": 3, "facet": ["tag", "n", "flag", "x"],
                "sort": [{f: "desc" if d else "asc"} for f, d in keys]}
        answer = run(m, body)
        what = json.dumps(body, ensure_ascii=False)
        scores = {h["doc"]["id"]: h["score"] for h in answer["docs"]}
        equal(sorted(scores), sorted(hits), what)
        for i, s in hits.items():
            check(close(scores[i], s), what, i, scores[i], s)
        whole = ref.sort_ids(corpus, scores, keys)  # by the engine's scores: rounding may part equal ones
        equal(list(scores), whole, what)
        at = rng.randrange(len(hits) + 1)
        page = run(m, {**body, "from": at, "size": 7})
        equal([h["doc"]["id"] for h in page["docs"]], whole[at:at + 7], what, "from", at)
        for shown in answer["facets"]:
            counts, missing = ref.facet(corpus, hits, shown["field"])
            equal([(v["value"], v["count"]) for v in shown["values"]], counts[:3], what, shown["field"])
            equal((shown["other"], shown["missing"]), (sum(c for _, c in counts[3:]), missing), shown["field"])


# ---- partitions ----

def partition_filters(rng, corpus, members):
    """The filter and the documents it shows, for some values of the partition field."""
    values = rng.sample(TAGS + ["none such"], rng.choice([1, 1, 2, 4]))
    return {"field": "tag", "in": values}, set().union(*(members[v] for v in values))


def test_partitions(env):
    """A filter hides documents and changes no score, whatever the query; kNN ranks what is shown."""
    rng = env.random
    docs = [{**random_doc(rng, n), "tag": rng.choice(TAGS)} for n in range(160)]
    for doc in docs[::9]:
        del doc["tag"]  # in the default partition, which no filter shows
    corpus = ref.Corpus(FIELDS, docs)
    m = env.mount("--build-age=-1")
    m.make("c", {"indexConfigs": CONFIGS, "partitionConfig": {"fieldName": "tag", "dataType": "keyword", "numPartitions": 5}},
           docs[:100])
    env.ldbfs("build", "--shards", "3", "c")
    m.load("c", docs[100:])

    def members():
        """Value -> documents of its partition: those of the value, and of others that fall into the same."""
        out = {}
        for v in TAGS + ["none such"]:
            out[v] = set(m.ids("c", f"*:*?partition={v}&size=1000"))
            check({i for i, t in corpus.values("tag").items() if t == [v]} <= out[v], "partition of", v)
            check(all(out[v] == out[u] or not out[v] & out[u] for u in out), "partitions overlap", v)
        return out

    for step in range(3):
        parts = members()
        for _ in range({"quick": 6, "normal": 20, "long": 200}[MODE]):
            only, corpus.visible = partition_filters(rng, corpus, parts)
            query = rng.choice([random_object, random_text, random_knn, random_sparse])(rng)
            if not blurred(corpus, query):
                body = {"query": query.json(), "size": 1000, "format": "json", "partitionFilter": only}
                compare_hits(run(m, body), query.hits(corpus), json.dumps(body, ensure_ascii=False),
                             to_the_bit=exact(query))
        corpus.visible = None
        for doc in rng.sample(docs, 10):  # some move to another partition
            corpus.put({**doc, "tag": rng.choice(TAGS)})
            m.load("c", [corpus.docs[doc["id"]]])
        env.ldbfs("build", *(["--full"] if step == 1 else []), "c")


def test_partitions_are_declared_in_time(env):
    """schema.json can name the partitions of a collection while it is empty."""
    config = {"partitionConfig": {"fieldName": "tag", "numPartitions": 4}}
    m = env.mount("--build-age=-1")
    m.make("c", docs=[{"id": "a", "tag": "x", "t": "whale"}])

    def declare():
        with open(m("c/schema.json"), "w") as f:
            f.write(json.dumps(config))

    try:
        declare()
        check(False, "partitions beside documents")
    except OSError as e:
        equal(e.errno, errno.EINVAL)
    text = json.loads(m.sh("tail -n 1 errors.jsonl"))["message"]
    check('"tag": partitions can be added only while the collection is empty' in text, text)
    env.ldbfs("build", "c")
    m.load("c", [{"id": "a"}], "delete")
    declare()
    equal(m.status("c")["partitions"], 5)
    m.load("c", [{"id": n, "tag": v, "t": "whale"} for n, v in zip("abcdef", "xyzxyz")])
    for command in (None, "build", "build"):
        if command:
            env.ldbfs(command, "--full", "c")
        for value, want in zip("xyz", ("ad", "be", "cf")):
            check(set(m.ids("c", f"t:whale?partition={value}")) >= set(want), value)
            equal(sorted(m.ids("c", f"+t:whale +tag:{value}?partition={value}")), list(want), value)


# ---- texts instead of vectors ----

def test_query_texts(env):
    """knn with a queryText is knn with the vector of the text, alone, in bools, in hybrids and with filters."""
    rng = env.random
    docs = [random_doc(rng, n) for n in range(80)]
    configs = {**CONFIGS, "meaning": {"type": "vector", "managedEmbedding": True, "embedding": {
        "provider": "openai", "model": "m", "sourceField": "title", "dimensions": 8}}}

    def filled(doc):
        return {**doc, "meaning": embed(doc["title"], 8)} if "title" in doc else doc

    corpus = ref.Corpus({**FIELDS, "meaning": ("vector", "cosine")}, map(filled, docs))
    with Fake(env):
        m = env.mount("--build-age=-1")
        m.make("c", {"indexConfigs": configs}, docs[:50])
        env.ldbfs("build", "--shards", "2", "c")
        m.load("c", docs[50:])
        for _ in range({"quick": 6, "normal": 20, "long": 100}[MODE]):
            words = " ".join(rng.choices(VOCABULARY, k=rng.randrange(1, 4)))
            only = random_text(rng, 1) if rng.random() < 0.5 else None
            knn = ref.Knn("meaning", embed(words, 8), rng.choice([1, 5, 40]), only, words=words)
            compare(m, corpus, knn)
            compare(m, corpus, ref.Bool([("should", knn), ("should", random_text(rng)), ("should", random_knn(rng))]))
            compare(m, corpus, ref.Fuse(rng.choice(["rrf", "mm", "l2"]), [knn, random_text(rng)]))
