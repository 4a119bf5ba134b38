"""A million lines, two of them bad: everything else arrives, and what did not is said exactly."""
import json
import os

from harness import MODE, check, equal, read

LINES = 100_000 if MODE == "quick" or os.environ.get("LDBFS_SLOW") else 1_000_000
BAD = (17, LINES)


def generate(path):
    with open(path, "w") as f:
        for i in range(1, LINES + 1):
            if i in BAD:
                f.write('{"id": "%d", bad\n' % i)
            else:
                f.write('{"id":"%d","title":"line number %d","group":"g%d","value":%d}\n' % (i, i, i % 100, i))


def all_text(folder):
    return {name: read(os.path.join(folder, name)) for name in os.listdir(folder)}


def test_million_lines(env):
    generate(env.path("million.jsonl"))
    m = env.mount()
    m.make("c", {"indexConfigs": {"title": {"type": "text"}, "group": {"type": "keyword"},
                                  "value": {"type": "long"}}})
    p = m.sh("cp $T/million.jsonl c/ingest/", status=None, timeout=300)
    equal(p.returncode, 1, "cp", p.stderr)
    check("Bad message" in p.stderr, p.stderr)
    equal(json.loads(m.ask("c", "*:*?size=1&format=json"))["total"], LINES - 2, "total")
    equal(m.status("c")["documents"], LINES - 2, "documents")
    for i in (1, 16, 18, LINES // 2, LINES - 1):
        equal(m.ids("c", f"value:{i}"), [str(i)])
    for i in BAD:
        check(not os.path.exists(m(f"c/docs/{i}.json")), i, "should not be there")
    receipt = json.loads(read(m("c/ingest/receipts/million.jsonl.json")))
    equal((receipt["accepted"], receipt["rejected"], receipt["last_seq"] - receipt["first_seq"] + 1),
          (LINES - 2, 2, LINES - 2), receipt)
    equal(json.loads(read(m("c/ingest/million.jsonl")))["accepted"], LINES - 2, "the dropped name reads as its receipt")
    rejects = all_text(m("c/ingest/rejects"))
    equal(rejects.pop("million.jsonl"), "".join('{"id": "%d", bad\n' % i for i in BAD), "rejects")
    reasons = [json.loads(line) for line in rejects.pop("million.jsonl.reasons.jsonl").splitlines()]
    equal([r["line"] for r in reasons], list(BAD), reasons)
    equal(rejects, {})
    # The rejects can be corrected and tried again.
    m.sh("sed 's/, bad/}/' c/ingest/rejects/million.jsonl > c/ingest/upsert")
    equal(json.loads(m.ask("c", "*:*?size=1&format=json"))["total"], LINES, "documents after the correction")
    check(m.memory_peak() < 2 << 30, "memory", m.memory_peak())


test_million_lines.timeout = 400
test_million_lines.alone = True


def test_bad_line_fails_at_once(env):
    m = env.mount()
    m.make("c")
    p = m.sh("echo '{bad' >> c/ingest/upsert", status=None)
    check(p.returncode != 0 and "Bad message" in p.stderr, p.stderr)
    p = m.sh("echo '{\"id\":\"1\"}' >> c/ingest/upsert", status=None)
    equal((p.returncode, p.stderr), (0, ""))
    newest = json.loads(read(m("errors.jsonl")).splitlines()[-1])
    check("c/ingest/upsert" in newest["path"], newest)


def test_listing_many_documents(env):
    """A big directory streams: complete, in id order, and it starts at once."""
    n = 20_000 if MODE == "quick" or os.environ.get("LDBFS_SLOW") else 100_000
    m = env.mount()
    m.make("c", {"indexConfigs": {"n": {"type": "long"}}})
    with open(m("c/ingest/upsert"), "w") as f:
        f.writelines('{"id":"%06d","n":%d}\n' % (i, i) for i in range(n))
    with os.scandir(m("c/docs")) as it:
        names = [e.name for e in it]
    equal(len(names), n)
    equal(names, sorted(names), "order")
    equal(len(set(names)), n, "each once")
    equal(m.sh("ls -f c/docs | head -n 3 | wc -l"), "3\n")
    equal(m.sh("find c/docs -name '*99.json' | wc -l", timeout=200), f"{n // 100}\n")
