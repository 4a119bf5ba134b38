"""Scores on a small corpus equal Lucene's formula, computed here independently, to 1e-6 relative."""
import json
import random

import bm25
from harness import check, equal

SCHEMA = {"indexConfigs": {"title": {"type": "text"}, "body": {"type": "text"}, "kind": {"type": "keyword"},
                           "vec": {"type": "vector", "dimensions": 3, "similarity": "cosine"}}}
VOCABULARY = ("whale ship sea captain harpoon storm island garden herb soup recipe winter summer river mountain "
              "stone light dark morning evening").split()
TOLERANCE = 1e-6


def corpus():
    """Lengths from 1 to some thousand, so that every part of the length code is met; fixed."""
    rng = random.Random(7)
    docs = {}
    lengths = [1, 2, 3, 5, 8, 13, 21, 34, 38, 39, 40, 41, 42, 47, 48, 55, 64, 89, 100, 144, 255, 256, 400, 1000, 2500]
    for i in range(120):
        length = lengths[i % len(lengths)]
        weights = [1 / (k + 1) for k in range(len(VOCABULARY))]
        rng.shuffle(weights)
        doc = {"id": f"d{i:03}", "body": " ".join(rng.choices(VOCABULARY, weights, k=length))}
        if i % 3:
            doc["title"] = " ".join(rng.choices(VOCABULARY, k=rng.randrange(1, 9)))
        docs[doc["id"]] = doc
    return docs


def fields(docs):
    return (bm25.Field({d: v.get("title") for d, v in docs.items()}),
            bm25.Field({d: v.get("body") for d, v in docs.items()}))


def compare(m, query, want):
    got = {}
    answer = json.loads(m.ask("c", query + "?size=1000&format=json"))
    for hit in answer["docs"]:
        got[hit["doc"]["id"]] = hit["score"]
    equal(answer["total"], len(want), query, "total")
    equal(sorted(got), sorted(want), query)
    for d, s in want.items():
        check(abs(got[d] - s) <= TOLERANCE * abs(s), f"{query}: {d} scores {got[d]!r}, the formula gives {s!r}")
    order = [h["doc"]["id"] for h in answer["docs"]]
    equal(order, sorted(order, key=lambda d: (-got[d], d)), query, "order")
    equal(answer["maxScore"], max(got.values()), query, "maxScore")


def check_all(m, docs):
    title, body = fields(docs)
    for term in ("whale", "soup", "evening", "stone"):
        compare(m, f"body:{term}", body.term(term))
        compare(m, f"title:{term}", title.term(term))
    compare(m, "body:whale body:ship", bm25.total(body.term("whale"), body.term("ship")))
    compare(m, "body:whale body:whale", bm25.total(body.term("whale"), body.term("whale")))
    compare(m, "body:whale^2.5 body:sea", bm25.total(body.term("whale", 2.5), body.term("sea")))
    compare(m, 'body:"whale ship"', body.phrase(["whale", "ship"]))
    compare(m, 'body:"sea captain harpoon"', body.phrase(["sea", "captain", "harpoon"]))
    compare(m, "herb", bm25.total(body.term("herb"), title.term("herb")))
    both = body.term("river").keys() & title.term("river").keys()
    scores = bm25.total(body.term("river"), title.term("river"))
    compare(m, "body:river AND title:river", {d: scores[d] for d in both})
    without = {d: s for d, s in body.term("light").items() if d not in title.term("dark")}
    compare(m, "body:light -title:dark", without)
    compare(m, "*:*", {d: 1.0 for d in docs})


def test_scores(env):
    docs = corpus()
    m = env.mount("--build-age=-1")
    m.make("c", SCHEMA, docs.values())
    check_all(m, docs)
    env.ldbfs("build", "c")
    check_all(m, docs)
    # Statistics are those of the live documents: deletes and replacements count at once, built or not.
    for d in ("d003", "d024", "d077"):
        del docs[d]
    m.load("c", [{"id": "d003"}, "\"d024\"", {"id": "d077"}], "delete")
    docs["d010"] = {"id": "d010", "title": "whale whale ship", "body": "sea whale ship storm"}
    m.load("c", [docs["d010"]])
    check_all(m, docs)
    env.ldbfs("build", "--full", "c")
    check_all(m, docs)


def test_known_length_codes(env):
    """Facts of Lucene's one-byte length code that the tables above rest on."""
    for length, coded in ((1, 1), (23, 23), (40, 40), (41, 40), (100, 96), (1000, 984)):
        equal(bm25.length_code(length), coded, "length", length)


def test_vector_scores(env):
    m = env.mount()
    vectors = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [1, 1, 0], "d": [-1, 0, 0.5], "e": [0.2, 0.1, 0.9]}
    m.make("c", SCHEMA, [{"id": i, "vec": v} for i, v in vectors.items()])

    def cosine(x, y):
        dot = sum(p * q for p, q in zip(x, y))
        return dot / (sum(p * p for p in x) * sum(q * q for q in y)) ** 0.5

    answer = json.loads(m.ask("c", "*:*?near=a&field=vec&size=5&format=json"))
    want = {i: max((1 + cosine(vectors["a"], v)) / 2, 0) for i, v in vectors.items()}
    got = {h["doc"]["id"]: h["score"] for h in answer["docs"]}
    got.setdefault("a", 1.0)  # the document itself may be left out
    equal(sorted(got), sorted(want), "neighbours")
    for i, s in want.items():
        check(abs(got[i] - s) <= 1e-5, f"{i}: {got[i]} instead of {s}")
