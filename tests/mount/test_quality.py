"""Ranking quality through the mount with default settings: title and text in one field, questions as bare words."""
import os
import sys

from harness import ROOT, check, data_file, equal, read_jsonl, write_lines

sys.path.insert(0, os.path.join(ROOT, "tests/quality"))
import ndcg


def run(env, corpus):
    docs = list(ndcg.documents(read_jsonl(data_file(corpus + ".jsonl.zst"))))
    queries = read_jsonl(data_file(corpus + "-queries.jsonl"))
    qrels = ndcg.read_qrels(data_file(corpus + "-qrels.tsv"))
    goal = ndcg.CORPORA[corpus][1]
    m = env.mount()
    m.make("c", ndcg.schema(corpus))
    write_lines(env.path("docs.jsonl"), docs)
    m.sh("cp $T/docs.jsonl c/ingest/")
    equal(m.status("c")["documents"], len(docs), "documents")
    runs = {q["id"]: m.ids("c", ndcg.plain(q["text"])) for q in queries}
    got = ndcg.mean_ndcg(runs, qrels)
    check(got >= goal, f"nDCG@10 {got:.4f}, expected at least {goal}")
    print(f"nDCG@10 {got:.4f} over {len(queries)} queries")


def quality_test(corpus):
    def test(env):
        run(env, corpus)
    return f"test_{corpus}_ndcg", test


TESTS = [quality_test(corpus) for corpus in ndcg.CORPORA]
