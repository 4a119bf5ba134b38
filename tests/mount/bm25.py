"""Lucene's BM25 with float32 arithmetic, written from the formula and independent of the engine.

Analysis here is lower-cased [a-z0-9]+ words: what the standard analyzer gives for plain English text.
"""
import math
import re
import struct

K1, B = 1.2, 0.75


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def long_to_int4(i):
    bits = i.bit_length()
    if bits < 4:
        return i
    shift = bits - 4
    return ((i >> shift) & 7) | ((shift + 1) << 3)


def int4_to_long(i):
    shift = (i >> 3) - 1
    return i & 7 if shift == -1 else ((i & 7) | 8) << shift


FREE = 255 - long_to_int4(2**31 - 1)  # lengths that are coded exactly


def length_code(length):
    """SmallFloat.intToByte4, then byte4ToInt."""
    if length < FREE:
        return length
    return FREE + int4_to_long(long_to_int4(length - FREE))


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


class Field:
    """One text field over live documents (id -> text or None)."""

    def __init__(self, docs):
        self.tokens = {d: words(t) for d, t in docs.items() if t is not None and words(t)}
        self.n = len(self.tokens)
        self.average = f32(sum(map(len, self.tokens.values())) / self.n) if self.n else 0.0

    def idf(self, df):
        return f32(math.log(1 + (self.n - df + 0.5) / (df + 0.5)))

    def df(self, term):
        return sum(term in t for t in self.tokens.values())

    def score(self, weight, freq, doc):
        """weight - weight / (1 + freq * ni), each step rounded to float32."""
        length = f32(length_code(len(self.tokens[doc])))
        k1, b = f32(K1), f32(B)
        inner = f32(f32(1 - b) + f32(f32(b * length) / self.average))
        ni = f32(1 / f32(k1 * inner))
        return f32(weight - f32(weight / f32(1 + f32(freq * ni))))

    def term(self, term, boost=1.0):
        weight = f32(boost * self.idf(self.df(term)))
        return {d: self.score(weight, t.count(term), d) for d, t in self.tokens.items() if term in t}

    def phrase(self, terms, boost=1.0):
        weight = f32(boost * f32(sum(self.idf(self.df(t)) for t in terms)))
        out = {}
        for d, tokens in self.tokens.items():
            freq = sum(tokens[i:i + len(terms)] == terms for i in range(len(tokens)))
            if freq:
                out[d] = self.score(weight, freq, d)
        return out


def total(*parts):
    """The sum of clauses (dicts of id -> score), in order."""
    out = {}
    for part in parts:
        for d, s in part.items():
            out[d] = out.get(d, 0.0) + s
    return {d: f32(s) for d, s in out.items()}
