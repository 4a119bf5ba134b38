"""nDCG as trec_eval computes it: gain = grade, discount log2(rank + 1), ideal from all judged documents.

As a program: ndcg.py [--binary ldbfs] CORPUS...   asks the CORPUS-queries of the test data through the command line.
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# The least that a change may leave, and what others reach: Lucene 8 with EnglishAnalyzer, nori, kuromoji (the latter two
# over all questions; CJK bigrams: KorQuAD 0.9492, JSQuAD 0.9383).
CORPORA = {
    "cranfield": ("english", 0.355),  # Lucene 0.3588, SQLite FTS5 0.3532
    "cacm": ("english", 0.49),        # Lucene 0.4942
    "scifact": ("english", 0.68),     # Lucene 0.6826
    "korquad": ("korean", 0.955),     # nori 0.9623
    "jsquad": ("japanese", 0.935),    # kuromoji 0.9387
}


def schema(corpus):
    """Title and text in one field, nothing else set."""
    return {"indexConfigs": {"body": {"type": "text", "analyzers": [CORPORA[corpus][0]]}}}


def ndcg(ranked, grades, depth=10):
    """ranked: ids, best first. grades: id -> grade."""
    gain = sum(max(grades.get(d, 0), 0) / math.log2(i + 2) for i, d in enumerate(ranked[:depth]))
    ideal = sum(g / math.log2(i + 2) for i, g in
                enumerate(sorted((g for g in grades.values() if g > 0), reverse=True)[:depth]))
    return gain / ideal if ideal else 0.0


def mean_ndcg(runs, qrels, depth=10):
    """runs: query id -> ranked ids. The mean over the queries that have a relevant document."""
    judged = [q for q in runs if any(g > 0 for g in qrels.get(q, {}).values())]
    return sum(ndcg(runs[q], qrels[q], depth) for q in judged) / len(judged)


def read_qrels(path):
    qrels = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            query, doc, grade = line.split()
            qrels.setdefault(query, {})[doc] = int(grade)
    return qrels


def plain(text):
    """A question as a query: nothing of it is read as syntax."""
    words = re.sub(r'([+\-!():^\[\]"{}~*?\\/<>&|=@])', r"\\\1", text).split()
    return " ".join(w.lower() if w in ("AND", "OR", "NOT", "TO") else w for w in words)


def documents(lines):
    for doc in lines:
        yield {"id": doc["id"], "body": ((doc.get("title") or "") + " " + (doc.get("text") or "")).strip()}


def main():
    sys.path.insert(0, os.path.join(HERE, "../mount"))
    import harness
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=harness.BIN)
    parser.add_argument("corpus", nargs="+")
    args = parser.parse_args()
    for corpus in args.corpus:
        with tempfile.TemporaryDirectory() as tmp:
            docs = harness.read_jsonl(harness.data_file(corpus + ".jsonl.zst"))
            harness.write_lines(os.path.join(tmp, "d.jsonl"), documents(docs))
            with open(os.path.join(tmp, "schema.json"), "w") as f:
                json.dump(schema(corpus), f)
            base = [args.binary, "--data", os.path.join(tmp, "data")]
            subprocess.run([*base, "load", "--create", "--schema", f"{tmp}/schema.json", "c", f"{tmp}/d.jsonl"],
                           check=True)
            runs = {}
            for q in harness.read_jsonl(harness.data_file(corpus + "-queries.jsonl")):
                out = subprocess.run([*base, "query", "c", plain(q["text"]) + "?format=ids"], check=True,
                                     stdout=subprocess.PIPE, text=True).stdout
                runs[q["id"]] = out.split("\n")[:-1]
            qrels = read_qrels(harness.data_file(corpus + "-qrels.tsv"))
            print(f"{corpus}: nDCG@10 {mean_ndcg(runs, qrels):.4f} over {len(runs)} queries")


if __name__ == "__main__":
    main()
