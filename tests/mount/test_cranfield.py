"""Ranking quality through the mount: the Cranfield collection, title and text in one english field."""
import os
import sys

from harness import ROOT, check, data_file, equal, read_jsonl, write_lines

sys.path.insert(0, os.path.join(ROOT, "tests/quality"))
import ndcg

GOAL = 0.355  # Lucene 8: 0.3588, SQLite FTS5: 0.3532


def test_cranfield_ndcg(env):
    docs = list(ndcg.documents(read_jsonl(data_file("cranfield.jsonl.zst"))))
    queries = read_jsonl(data_file("cranfield-queries.jsonl"))
    qrels = ndcg.read_qrels(data_file("cranfield-qrels.tsv"))
    m = env.mount()
    m.make("c", ndcg.SCHEMA)
    write_lines(env.path("cranfield.jsonl"), docs)
    m.sh("cp $T/cranfield.jsonl c/ingest/")
    equal(m.status("c")["documents"], len(docs), "documents")
    runs = {q["id"]: m.ids("c", ndcg.plain(q["text"])) for q in queries}
    equal(len(runs), 225, "queries")
    got = ndcg.mean_ndcg(runs, qrels)
    check(got >= GOAL, f"nDCG@10 {got:.4f}, expected at least {GOAL}")
    print(f"nDCG@10 {got:.4f}")
