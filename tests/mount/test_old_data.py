"""A data directory that an older version wrote answers as that version did, and goes on from there.

tests/golden/format-N.tar.zst, N the tree's format (docs/FORMAT.md): data, queries.txt, and expected/COLLECTION-LINE, the answers of
the version that wrote it. It was made by load, build (some replaced, some deleted), clone, and more writes that stay in the log. A
new format gets a file beside the old ones.
"""
import os

from harness import check, equal, need

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")


def same_answers(env, when):
    with open(env.path("queries.txt"), encoding="utf-8") as f:
        queries = f.read().splitlines()
    for name in ("old", "copy"):
        for i, spec in enumerate(queries):
            with open(env.path("expected", f"{name}-{i}"), encoding="utf-8") as f:
                equal(env.ldbfs("query", name, spec), f.read(), f"{spec} in {name} {when}")


def test_format_1(env):
    need("zstd")
    env.sh(f"tar --zstd -xf {os.path.abspath(GOLDEN)}/format-1.tar.zst -C $T")
    same_answers(env, "as it was written")
    env.ldbfs("check")
    env.ldbfs("build", "old")  # old segments and new ones
    same_answers(env, "with a new segment")
    env.ldbfs("build", "--full", "copy")
    env.ldbfs("build", "--full", "old")
    same_answers(env, "rewritten")
    env.ldbfs("check")
    m = env.mount("--retention", str(100 * 365 * 86400 * 1000))
    m.load("old", [{"id": "d003", "title": "a newer letter"}])
    check("a newer letter" in m.sh("cat old/docs/d003.json"), "a document that was written over")
    snapshots = m.sh("ls old/snapshots").split()
    check(snapshots, "the old history is listed")
    equal(m.ask(f"old/snapshots/{snapshots[0]}", "id:d003?format=count"), "1\n", "a query of the old history")
    check("a newer letter" not in m.sh(f"cat old/snapshots/{snapshots[0]}/docs/d003.json"), "as it was")
