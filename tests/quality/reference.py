"""A plain reference of the query model, written from its description (docs/QUERY.md) and not from the engine.

Everything is evaluated by looking at every document. A query is a tree of the classes below; each can be written as the
API's JSON object (json), most also as a query string (text), and evaluated (hits: id -> score, over all matches). Scores
follow the documented formulas in float32; sums of clauses are taken in double and rounded once.

Text is analysed as lower-cased words of [a-z0-9]: what the standard analyzer gives for plain English.
"""
import datetime
import math
import re
import struct

K1, B = 1.2, 0.75
RRF_RANK = 60
FUZZY_TERMS = 50


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


def milliseconds(text):
    """RFC 3339, fractions of a millisecond cut."""
    whole = re.sub(r"(\.\d{3})\d+", r"\1", text.upper().replace("Z", "+00:00"))
    whole = re.sub(r"\.(\d{1,3})", lambda m: "." + m[1].ljust(6, "0"), whole)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (datetime.datetime.fromisoformat(whole) - epoch) // datetime.timedelta(milliseconds=1)


class Corpus:
    """Live documents by id, and the field types: text, keyword, long, double, boolean, datetime, vector, sparse.

    visible: the ids of the documents that a partition filter shows, None for all; statistics are always those of all."""

    def __init__(self, fields, docs=()):
        self.fields = fields  # path -> type, or (vector, similarity)
        self.docs = {d["id"]: d for d in docs}
        self.cache = {}
        self.visible = None

    def shown(self):
        return self.docs.keys() if self.visible is None else self.docs.keys() & self.visible

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
            read = milliseconds if self.fields[field] == "datetime" else lambda v: v
            found = {i: sorted(set(map(read, values_at(d, field)))) for i, d in self.docs.items()}
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
        shown = corpus.shown()
        return {i: s for i, s in self.find(corpus, boost).items() if i in shown}

    def find(self, corpus, boost):
        """id -> score over all documents; only what ranks (Knn) has to mind the visible ones."""
        raise NotImplementedError


class All(Query):
    def text(self):
        return "*:*"

    def find(self, corpus, boost):
        return {i: f32(boost) for i in corpus.docs}


def field_terms(corpus, field):
    """id -> terms: the words of a text, or the keywords."""
    return corpus.tokens(field) if corpus.fields[field] == "text" else corpus.values(field)


def average_length(terms):
    return f32(sum(map(len, terms.values())) / len(terms))


def term_score(corpus, field, weight, freq, terms, average):
    """Of one document. A keyword counts once, in a field of length 1."""
    text = corpus.fields[field] == "text"
    return bm25(weight, freq if text else 1, short_length(len(terms)) if text else 1, average)


class Phrase(Query):
    """One word or several in a row of a text field (slop: or near each other), or a whole keyword."""

    def __init__(self, field, terms, boost=1.0, slop=0):
        self.field, self.terms, self.boost, self.slop = field, terms, boost, slop

    def text(self):
        slop = f"~{self.slop}" if self.slop else ""
        plain = len(self.terms) == 1 and re.fullmatch(r"\w+", self.terms[0])
        return self.boosted(f"{self.field}:" + (self.terms[0] if plain else f"\"{' '.join(self.terms)}\"{slop}"))

    def freq(self, terms):
        k = len(self.terms)
        if k > 1 and self.slop:
            return sloppy_freq(terms, self.terms, self.slop)
        return sum(terms[p:p + k] == self.terms for p in range(len(terms) - k + 1))

    def find(self, corpus, boost):
        boost = f32(boost * f32(self.boost))
        source = field_terms(corpus, self.field)
        if not source:
            return {}
        average, out = average_length(source), {}
        idfs = [idf(sum(t in doc for doc in source.values()), len(source)) for t in self.terms]
        weight = f32(boost * f32(math.fsum(idfs)))
        for i, terms in source.items():
            freq = self.freq(terms)
            if freq:
                out[i] = term_score(corpus, self.field, weight, freq, terms, average)
        return out


class Place:
    """One word of a sloppy phrase: where it stands in the document, less its place in the phrase."""

    def __init__(self, term, offset, doc):
        self.term, self.offset = term, offset
        self.left = [p - offset for p, t in enumerate(doc) if t == term]
        self.at = None

    def key(self):
        return self.at, self.offset

    def step(self):
        if not self.left:
            return False
        self.at = self.left.pop(0)
        return True


def sloppy_freq(doc, phrase, slop):
    """Lucene's SloppyPhraseMatcher. Always the hindmost word steps on; when it passes the next one, the narrowest stand seen
    meanwhile counts 1 / (1 + width) if it is at most `slop` wide. Equal words of the phrase never stand on one word of the
    document: of two that do, the hindmost steps on."""
    places = [Place(t, o, doc) for o, t in enumerate(phrase)]
    equal_words = {t: [p for p in places if p.term == t] for t in phrase}
    if not all(p.step() for p in places):
        return 0.0
    for group in equal_words.values():
        for later, p in enumerate(group):
            if not all(p.step() for _ in range(later)):
                return 0.0
    end, freq, queue = max(p.at for p in places), 0.0, sorted(places, key=Place.key)

    def advance(p):
        nonlocal end
        ok = p.step()
        end = max(end, p.at) if ok else end
        return ok

    def part(p):
        """The words of the document that two equal words of the phrase stand on are different."""
        while True:
            other = next((q for q in equal_words[p.term] if q is not p and q.at + q.offset == p.at + p.offset), None)
            if not other:
                return True
            p = min(p, other, key=Place.key)
            if not advance(p):
                return False

    while True:
        p = queue.pop(0)
        width, following = end - p.at, queue[0].at
        while (more := advance(p) and part(p)) and p.at <= following:
            width = min(width, end - p.at)
        if width <= slop:
            freq = f32(freq + f32(1 / (1 + width)))
        if not more:
            return freq
        queue = sorted(queue + [p], key=Place.key)


def distance(a, b):
    """Edits from a to b: a character put in, taken out or changed, or two neighbours swapped."""
    rows = [list(range(len(b) + 1))]
    for i in range(1, len(a) + 1):
        row = [i]
        for j in range(1, len(b) + 1):
            best = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


class Fuzzy(Query):
    """Lucene's FuzzyQuery: the 50 nearest terms of all, each by its nearness, with the document frequency of the most frequent."""

    def __init__(self, field, word, edits=None, boost=1.0):
        self.field, self.word, self.edits, self.boost = field, word, edits, boost

    def text(self):
        return self.boosted(f"{self.field}:{self.word}~{'' if self.edits is None else self.edits}")

    def find(self, corpus, boost):
        boost, edits = f32(boost * f32(self.boost)), 2 if self.edits is None else self.edits
        source = field_terms(corpus, self.field)
        counts = {}
        for terms in source.values():
            for t in set(terms):
                counts[t] = counts.get(t, 0) + 1
        near = {t: distance(self.word, t) for t in counts}
        nearness = {t: 1 if not d else f32(1 - f32(d / min(len(t), len(self.word)))) for t, d in near.items() if d <= edits}
        best = sorted(nearness, key=lambda t: (-nearness[t], t.encode()))[:FUZZY_TERMS]
        if not best:
            return {}
        shared, average = idf(max(counts[t] for t in best), len(source)), average_length(source)
        parts = []
        for t in sorted(best, key=str.encode):
            weight = f32(f32(boost * f32(max(nearness[t], 0))) * shared)
            parts.append({i: term_score(corpus, self.field, weight, terms.count(t), terms, average)
                          for i, terms in source.items() if t in terms})
        return add(parts)


class Pattern(Query):
    """Any test of whole terms, written as a prefix, a wildcard or an expression: constant score."""

    def __init__(self, field, pattern, boost=1.0, accepts=None):
        self.field, self.pattern, self.boost = field, pattern, boost
        regex = re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), re.S)
        self.accepts = accepts or regex.fullmatch

    def text(self):
        return self.boosted(f"{self.field}:{self.pattern}")

    def find(self, corpus, boost):
        score = f32(boost * f32(self.boost))
        return {i: score for i, v in field_terms(corpus, self.field).items() if any(self.accepts(t) for t in v)}


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

    def find(self, corpus, boost):
        score = f32(boost * f32(self.boost))
        text = corpus.fields[self.field] == "text"
        source = corpus.tokens(self.field) if text else corpus.values(self.field)
        return {i: score for i, v in source.items() if any(map(self.accepts, v))}


class Exists(Query):
    def __init__(self, field):
        self.field = field

    def text(self):
        return f"{self.field}:*"

    def find(self, corpus, boost):
        return {i: f32(boost) for i in field_terms(corpus, self.field)}


class Bool(Query):
    """clauses: (occur, query) with occur should, must, must_not or filter. at_least: so many of the optional clauses must
    match (0: one if nothing is required). The API's objects have no at_least, query strings no filter."""
    MARKS = {"should": "", "must": "+", "must_not": "-"}

    def __init__(self, clauses, boost=1.0, at_least=0):
        self.clauses, self.boost, self.at_least = clauses, boost, at_least

    def has_text(self):
        return all(o != "filter" and (not isinstance(q, Bool) or q.has_text()) and not isinstance(q, (Knn, Sparse))
                   for o, q in self.clauses)

    def text(self):
        at_least = f"@{self.at_least}" if self.at_least else ""
        return self.boosted("(" + " ".join(self.MARKS[o] + q.text() for o, q in self.clauses) + ")" + at_least)

    def json(self):
        """Only a clause can have a boost there."""
        if self.at_least:
            return {"queryString": {"query": self.text()}}
        plain = {"bool": [self.clause(*c) for c in self.clauses]}
        return plain if self.boost == 1 else {"bool": [{**plain, "boost": self.boost}]}

    @staticmethod
    def clause(occur, query):
        if isinstance(query, Bool) and not query.at_least:
            inner = {"bool": [Bool.clause(*c) for c in query.clauses]}
        else:
            inner = query.json()
        if query.boost != 1 and (isinstance(query, (Knn, Sparse)) or "bool" in inner):
            inner = {**inner, "boost": query.boost}
        return {**inner, "occur": occur}

    def find(self, corpus, boost):
        boost = f32(boost * f32(self.boost))
        found = [(o, q.hits(corpus, boost)) for o, q in self.clauses]
        total = add([h for o, h in found if o in ("should", "must")])
        keep = set(corpus.shown())
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
        if self.at_least:
            keep = {i for i in keep if sum(i in h for o, h in found if o == "should") >= self.at_least}
        return {i: total.get(i, 0.0) for i in keep}


class Knn(Query):
    """words: the text that `vector` is the embedding of, for a field with a managed embedding."""

    def __init__(self, field, vector, k, only=None, boost=1.0, words=None):
        self.field, self.vector, self.k, self.filter, self.boost = field, vector, k, only, boost
        self.words = words

    def json(self):
        out = {"field": self.field, "k": self.k}
        out |= {"queryText": self.words} if self.words else {"queryVector": self.vector}
        if self.filter:
            out["filter"] = self.filter.json()
        return {"knn": out}

    def all(self, corpus):
        """Every candidate, exactly (not rounded)."""
        kind = corpus.fields[self.field][1]
        allowed = self.filter.hits(corpus) if self.filter else corpus.shown()
        vectors = {i: vector_at(corpus.docs[i], self.field) for i in allowed}
        return {i: similarity(kind, self.vector, v) for i, v in vectors.items() if v}

    def find(self, corpus, boost):
        boost = f32(boost * f32(self.boost))
        scores = {i: f32(s) for i, s in self.all(corpus).items()}
        return {i: f32(boost * scores[i]) for i in ranked(scores)[:self.k]}


class Sparse(Query):
    def __init__(self, field, weights, boost=1.0):
        self.field, self.weights, self.boost = field, weights, boost

    def json(self):
        return {"sparseVector": {"field": self.field, "queryVector": self.weights}}

    def find(self, corpus, boost):
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

    def find(self, corpus, boost):
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
