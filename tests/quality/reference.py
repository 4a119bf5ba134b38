"""A plain reference of the query model, written from its description (docs/QUERY.md) and not from the engine.

Everything is evaluated by looking at every document. A query is a tree of the classes below; each can be written as the
API's JSON object (json), most also as a query string (text), and evaluated (hits: id -> score, over all matches). Scores
follow the documented formulas in float32; sums of clauses are taken in double and rounded once.

Text is analysed as lower-cased words of [a-z0-9]: what the standard analyzer gives for plain English.
"""
import math
import re
import struct

K1, B = 1.2, 0.75
RRF_RANK = 60


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def bits(x):
    return struct.unpack("I", struct.pack("f", x))[0]


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def short_length(n):
    """Lengths as Lucene keeps them in one byte: exact below 40, then three bits behind the leading one."""
    if n < 40:
        return n
    rest = n - 24
    shift = max(rest.bit_length() - 4, 0)
    return 24 + (rest >> shift << shift)


def values_at(doc, path):
    """All values at a dotted path; arrays and arrays of objects are flattened, null is no value."""
    found = [doc]
    for name in path.split("."):
        step = []
        for value in found:
            for v in value if isinstance(value, list) else [value]:
                if isinstance(v, dict) and name in v:
                    step.append(v[name])
        found = step
    flat = []
    for value in found:
        flat += value if isinstance(value, list) else [value]
    return [v for v in flat if v is not None]


def vector_at(doc, path):
    for name in path.split("."):
        doc = doc.get(name) if isinstance(doc, dict) else None
    return doc


class Corpus:
    """Live documents by id, and the field types: text, keyword, long, double, boolean, datetime (in ms), vector, sparse."""

    def __init__(self, fields, docs=()):
        self.fields = fields  # path -> type, or (vector, similarity)
        self.docs = {d["id"]: d for d in docs}
        self.cache = {}

    def put(self, doc):
        self.docs[doc["id"]] = doc
        self.cache = {}

    def patch(self, part):
        self.docs[part["id"]] = {**self.docs[part["id"]], **part}
        self.cache = {}

    def delete(self, doc_id):
        self.docs.pop(doc_id, None)
        self.cache = {}

    def tokens(self, field):
        """id -> tokens with positions (None between the values of an array)."""
        if field not in self.cache:
            out = {}
            for i, doc in self.docs.items():
                t = [w for v in values_at(doc, field) if isinstance(v, str) for w in words(v)]
                if t:
                    out[i] = t
            self.cache[field] = out
        return self.cache[field]

    def values(self, field):
        """id -> sorted distinct values of a column."""
        key = field, "values"
        if key not in self.cache:
            found = {i: sorted(set(values_at(d, field))) for i, d in self.docs.items()}
            self.cache[key] = {i: v for i, v in found.items() if v}
        return self.cache[key]


# ---- scores ----

def idf(df, n):
    return f32(math.log(1 + (n - df + 0.5) / (df + 0.5)))


def bm25(weight, freq, length, average):
    k1, b = f32(K1), f32(B)
    inverse = f32(1 / f32(k1 * f32(f32(1 - b) + f32(f32(b * f32(length)) / average))))
    return f32(weight - f32(weight / f32(1 + f32(f32(freq) * inverse))))


def add(parts):
    """Clauses in order: double, rounded once."""
    out = {}
    for part in parts:
        for i, s in part.items():
            out[i] = out.get(i, 0.0) + s
    return {i: f32(s) for i, s in out.items()}


def similarity(kind, a, b):
    a, b = [f32(x) for x in a], [f32(x) for x in b]
    dot = math.fsum(x * y for x, y in zip(a, b))
    if kind == "cosine":
        lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
        return max((1 + (dot / lengths if lengths else 0)) / 2, 0)
    if kind == "dot_product":
        return max((1 + dot) / 2, 0)
    if kind == "euclidean":
        return 1 / (1 + math.fsum((x - y) ** 2 for x, y in zip(a, b)))
    return 1 / (1 - dot) if dot < 0 else dot + 1


def quantised(weight):
    """FeatureField: float32 cut to 8 bits of the mantissa."""
    return struct.unpack("f", struct.pack("I", bits(weight) >> 15 << 15))[0]


def ranked(hits):
    return sorted(hits, key=lambda i: (-hits[i], i.encode()))


# ---- queries ----

class Query:
    boost = 1.0

    def text(self):
        raise NotImplementedError

    def boosted(self, text):
        return text if self.boost == 1 else f"{text}^{self.boost!r}"

    def json(self):
        return {"queryString": {"query": self.text()}}

    def hits(self, corpus, boost=1.0):
        raise NotImplementedError


class All(Query):
    def text(self):
        return "*:*"

    def hits(self, corpus, boost=1.0):
        return {i: f32(boost) for i in corpus.docs}


class Phrase(Query):
    """One word or several in a row of a text field, or a whole keyword."""

    def __init__(self, field, terms, boost=1.0):
        self.field, self.terms, self.boost = field, terms, boost

    def text(self):
        return self.boosted(f"{self.field}:" + (self.terms[0] if len(self.terms) == 1 else f"\"{' '.join(self.terms)}\""))

    def hits(self, corpus, boost=1.0):
        boost = f32(boost * f32(self.boost))
        if corpus.fields[self.field] == "keyword":
            return self.keyword(corpus, boost)
        tokens = corpus.tokens(self.field)
        n = len(tokens)
        if not n:
            return {}
        average = f32(sum(map(len, tokens.values())) / n)
        idfs = [idf(sum(t in doc for doc in tokens.values()), n) for t in self.terms]
        weight, k = f32(boost * f32(math.fsum(idfs))), len(self.terms)
        out = {}
        for i, doc in tokens.items():
            freq = sum(doc[p:p + k] == self.terms for p in range(len(doc) - k + 1))
            if freq:
                out[i] = bm25(weight, freq, short_length(len(doc)), average)
        return out

    def keyword(self, corpus, boost):
        values = corpus.values(self.field)
        found = [i for i, v in values.items() if self.terms[0] in v]
        if not found:
            return {}
        average = f32(sum(map(len, values.values())) / len(values))
        score = bm25(f32(boost * idf(len(found), len(values))), 1, 1, average)
        return {i: score for i in found}


class Pattern(Query):
    """A prefix or wildcard: constant score."""

    def __init__(self, field, pattern, boost=1.0):
        self.field, self.pattern, self.boost = field, pattern, boost

    def text(self):
        return self.boosted(f"{self.field}:{self.pattern}")

    def hits(self, corpus, boost=1.0):
        regex = re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in self.pattern), re.S)
        source = corpus.tokens(self.field) if corpus.fields[self.field] == "text" else corpus.values(self.field)
        score = f32(boost * f32(self.boost))
        return {i: score for i, v in source.items() if any(regex.fullmatch(t) for t in v)}


class Range(Query):
    """lo, hi: None is open. show: how a value is written."""

    def __init__(self, field, lo, hi, with_lo=True, with_hi=True, boost=1.0, show=str):
        self.field, self.lo, self.hi, self.with_lo, self.with_hi = field, lo, hi, with_lo, with_hi
        self.boost, self.show = boost, show

    def text(self):
        lo, hi = ("*" if v is None else self.show(v) for v in (self.lo, self.hi))
        return self.boosted(f"{self.field}:{'[' if self.with_lo else '{'}{lo} TO {hi}{']' if self.with_hi else '}'}")

    def accepts(self, v):
        low = self.lo is None or v > self.lo or (self.with_lo and v == self.lo)
        return low and (self.hi is None or v < self.hi or (self.with_hi and v == self.hi))

    def hits(self, corpus, boost=1.0):
        score = f32(boost * f32(self.boost))
        return {i: score for i, v in corpus.values(self.field).items() if any(map(self.accepts, v))}


class Exists(Query):
    def __init__(self, field):
        self.field = field

    def text(self):
        return f"{self.field}:*"

    def hits(self, corpus, boost=1.0):
        source = corpus.tokens(self.field) if corpus.fields[self.field] == "text" else corpus.values(self.field)
        return {i: f32(boost) for i in source}


class Bool(Query):
    """clauses: (occur, query) with occur should, must, must_not or filter (filter: not in a query string)."""
    MARKS = {"should": "", "must": "+", "must_not": "-"}

    def __init__(self, clauses, boost=1.0):
        self.clauses, self.boost = clauses, boost

    def has_text(self):
        return all(o != "filter" and (not isinstance(q, Bool) or q.has_text()) and not isinstance(q, (Knn, Sparse))
                   for o, q in self.clauses)

    def text(self):
        return self.boosted("(" + " ".join(self.MARKS[o] + q.text() for o, q in self.clauses) + ")")

    def json(self):
        """Only a clause can have a boost there."""
        plain = {"bool": [self.clause(*c) for c in self.clauses]}
        return plain if self.boost == 1 else {"bool": [{**plain, "boost": self.boost}]}

    @staticmethod
    def clause(occur, query):
        if isinstance(query, Bool):
            inner = {"bool": [Bool.clause(*c) for c in query.clauses]}
        else:
            inner = query.json()
        if query.boost != 1 and isinstance(query, (Knn, Sparse, Bool)):
            inner = {**inner, "boost": query.boost}
        return {**inner, "occur": occur}

    def hits(self, corpus, boost=1.0):
        boost = f32(boost * f32(self.boost))
        found = [(o, q.hits(corpus, boost)) for o, q in self.clauses]
        total = add([h for o, h in found if o in ("should", "must")])
        keep = set(corpus.docs)
        required = [h for o, h in found if o in ("must", "filter")]
        if not required:
            if not any(o == "should" for o, h in found):
                return {}
            keep = set().union(*(h for o, h in found if o == "should"))
        for h in required:
            keep &= h.keys()
        for o, h in found:
            if o == "must_not":
                keep -= h.keys()
        return {i: total.get(i, 0.0) for i in keep}


class Knn(Query):
    def __init__(self, field, vector, k, only=None, boost=1.0):
        self.field, self.vector, self.k, self.filter, self.boost = field, vector, k, only, boost

    def json(self):
        out = {"field": self.field, "queryVector": self.vector, "k": self.k}
        if self.filter:
            out["filter"] = self.filter.json()
        return {"knn": out}

    def all(self, corpus):
        """Every candidate, exactly (not rounded)."""
        kind = corpus.fields[self.field][1]
        allowed = self.filter.hits(corpus) if self.filter else corpus.docs
        vectors = {i: vector_at(corpus.docs[i], self.field) for i in allowed}
        return {i: similarity(kind, self.vector, v) for i, v in vectors.items() if v}

    def hits(self, corpus, boost=1.0):
        boost = f32(boost * f32(self.boost))
        scores = {i: f32(s) for i, s in self.all(corpus).items()}
        return {i: f32(boost * scores[i]) for i in ranked(scores)[:self.k]}


class Sparse(Query):
    def __init__(self, field, weights, boost=1.0):
        self.field, self.weights, self.boost = field, weights, boost

    def json(self):
        return {"sparseVector": {"field": self.field, "queryVector": self.weights}}

    def hits(self, corpus, boost=1.0):
        out, boost = {}, f32(boost * f32(self.boost))
        for i, doc in corpus.docs.items():
            have = vector_at(doc, self.field) or {}
            shared = [t for t in sorted(self.weights, key=str.encode) if self.weights[t] > 0 and have.get(t, 0) > 0]
            if shared:
                out[i] = f32(boost * f32(sum(f32(self.weights[t]) * quantised(have[t]) for t in shared)))
        return out


class Fuse(Query):
    """rrf, mm or l2 of two queries with their weights (default a half each; rrf ignores them)."""

    def __init__(self, kind, sides, weights=None):
        self.kind, self.sides, self.weights = kind, sides, weights

    def json(self):
        sides = [q.json() for q in self.sides]
        if self.weights:
            sides = [{**s, "boost": w} for s, w in zip(sides, self.weights)]
        return {self.kind: sides}

    def side(self, hits):
        if not hits:
            return {}
        if self.kind == "rrf":
            return {i: 1 / (RRF_RANK + rank) for rank, i in enumerate(ranked(hits), 1)}
        if self.kind == "l2":
            norm = math.sqrt(math.fsum(s * s for s in hits.values()))
            return {i: s / norm if norm else 0 for i, s in hits.items()}
        low, high = min(hits.values()), max(hits.values())
        if low == high:
            return {i: 1.0 for i in hits}
        return {i: (s - low) / (high - low) or 0.001 for i, s in hits.items()}

    def hits(self, corpus, boost=1.0):
        found = [self.side(q.hits(corpus)) for q in self.sides]
        weights = self.weights or [0.5, 0.5]
        if self.kind == "rrf":
            weights = [(RRF_RANK + 1) / 2] * 2
        ids = found[0].keys() | found[1].keys()
        return {i: f32(math.fsum(w * h.get(i, 0) for w, h in zip(weights, found))) for i in ids}


# ---- what is made of hits ----

def sort_ids(corpus, hits, keys):
    """keys: (field, descending); a missing value comes last either way, ties by id. Multi-valued: ascending by the least,
    descending by the greatest value."""
    ids = sorted(hits, key=str.encode)
    for field, descending in reversed(keys):
        if field == "_score":
            ids.sort(key=lambda i: hits[i], reverse=descending)
        elif field == "_id":
            ids.sort(key=str.encode, reverse=descending)
        else:
            values = corpus.values(field)
            have = [i for i in ids if i in values]
            have.sort(key=lambda i: sortable(values[i][-1 if descending else 0]), reverse=descending)
            ids = have + [i for i in ids if i not in values]
    return ids


def sortable(v):
    return v.encode() if isinstance(v, str) else v


def facet(corpus, hits, field):
    """(value, count) by count descending, then value; and how many hits have no value."""
    counts, values = {}, corpus.values(field)
    for i in hits:
        for v in values.get(i, ()):
            counts[v] = counts.get(v, 0) + 1
    return sorted(counts.items(), key=lambda p: (-p[1], sortable(p[0]))), sum(i not in values for i in hits)
