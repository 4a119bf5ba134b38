"""The benchmark's data, made once into the cache: texts, queries, vectors, exact neighbours."""
import json
import os
import re
import subprocess

from common import Skip, harness, make

KINDS = ("t1", "t2", "t3", "long")
FASHION = "/usr/share/datasets/fashion-mnist"


def reviews():
    """(id, text) of the film reviews; title and text are one field, white space is a blank: peers read lines."""
    for d in harness.read_jsonl(harness.data_file("imdb.jsonl.zst")):
        text = f"{d.get('title') or ''} {d.get('text') or ''}"
        yield d["id"], " ".join(text.split())


def write_texts(directory, docs):
    os.makedirs(directory, exist_ok=True)
    n = 0
    with open(f"{directory}/docs.jsonl", "w", encoding="utf-8") as a, open(f"{directory}/docs.tsv", "w", encoding="utf-8") as b:
        for i, text in docs:
            a.write(json.dumps({"id": i, "body": text}, ensure_ascii=False) + "\n")
            b.write(f"{i}\t{text}\n")
            n += 1
    return {"documents": n, "bytes": os.stat(f"{directory}/docs.jsonl").st_size}


def texts(cache, n):
    """Directory with docs.jsonl and docs.tsv of the first n reviews, and a file of queries of each kind."""
    def build(path):
        docs = (d for i, d in enumerate(reviews()) if i < n)
        got = write_texts(path, docs)
        queries = {k: [] for k in KINDS}
        with open(harness.data_file("imdb-bench-queries.tsv"), encoding="utf-8") as f:
            for line in f:
                _, kind, text = line.rstrip("\n").split("\t")
                words = re.findall(r"\w+(?:'\w+)*", text.lower())
                if words:
                    queries[kind].append(" ".join(words))
        for kind, lines in queries.items():
            with open(f"{path}/{kind}.txt", "w", encoding="utf-8") as f:
                f.write("".join(q + "\n" for q in lines))
        return got
    path, facts, _ = cache.have(f"imdb-{n}", build)
    return path, facts


PIECES = 10


def pieces(cache, n):
    """n short documents: each review cut into ten pieces of whole words."""
    def cut():
        made = 0
        for i, text in reviews():
            words = text.split()
            step = max(1, -(-len(words) // PIECES))
            for k in range(PIECES):
                if made == n:
                    return
                made += 1
                yield f"{made - 1:07}", " ".join(words[k * step:(k + 1) * step]) or i
    path, facts, _ = cache.have(f"pieces-{n}", lambda p: write_texts(p, cut()))
    return path, facts


class Vectors:
    """Files of one set: base.f32, query.f32, tags.u8, neighbours.i32 (10 a query)."""

    def __init__(self, path, name, dim):
        self.path, self.name, self.dim = path, name, dim
        self.base, self.query, self.tags, self.exact = (
            f"{path}/{f}" for f in ("base.f32", "query.f32", "tags.u8", "neighbours.i32"))
        self.n = os.stat(self.base).st_size // (4 * dim)
        self.n_queries = os.stat(self.query).st_size // (4 * dim)


def vectors(cache, name, dim, make_base):
    tool = make("vecdata")

    def build(path):
        os.makedirs(path)
        make_base(tool, path)
        subprocess.run([tool, "tags", f"{path}/base.f32", str(dim), f"{path}/tags.u8"], check=True)
        subprocess.run([tool, "neighbours", f"{path}/base.f32", f"{path}/query.f32", str(dim), "10",
                        f"{path}/neighbours.i32"], check=True)
        return {}
    path, _, _ = cache.have(name, build)
    return Vectors(path, name, dim)


def fashion(cache, limit):
    """limit: only so many of the 60,000 images and a tenth of them as queries; 0: all."""
    if not os.path.isdir(FASHION):
        raise Skip("dataset-fashion-mnist is not installed")

    def base(tool, path):
        files = f"{path}/base.f32", f"{path}/query.f32"
        subprocess.run([tool, "fashion", FASHION, *files], check=True)
        for f, n in zip(files, (limit, limit // 10)) if limit else ():
            os.truncate(f, n * 784 * 4)
    return vectors(cache, f"fashion-{limit}" if limit else "fashion", 784, base)


def gaussian(cache, n):
    return vectors(cache, f"gaussian-{n}", 96, lambda tool, path: subprocess.run(
        [tool, "gaussian", f"{path}/base.f32", f"{path}/query.f32", str(n)], check=True))
