"""Bad input: a clear error or it works; never a crash, a hang or unbounded memory."""
import json
import os
import subprocess

from harness import MODE, check, equal, read, wait_for

HUGE = "600M" if MODE == "quick" or os.environ.get("LDBFS_SLOW") else "6G"
MEMORY_LIMIT = 512 << 20 if not os.environ.get("LDBFS_SLOW") else 2 << 30


def ready(env):
    m = env.mount()
    m.make("c", {"dynamic": True, "indexConfigs": {"t": {"type": "text"}, "x": {"type": "double"}}})
    return m


def still_works(m, documents=None):
    m.load("c", [{"id": "alive", "t": "alive"}])
    equal(m.ids("c", "t:alive"), ["alive"])
    check(m.memory_peak() < MEMORY_LIMIT, "memory peak", m.memory_peak() >> 20, "MB")
    if documents is not None:
        equal(m.status("c")["documents"], documents)


def test_huge_line(env):
    m = ready(env)
    p = m.sh(f"head -c {HUGE} /dev/zero | cat > c/ingest/upsert", status=None, timeout=100)
    check(p.returncode == 0 or "too long" in p.stderr, p.stderr)
    check("Message too long" in p.stderr or "Bad message" in p.stderr, "cat's error:", p.stderr)
    still_works(m, 1)


def test_huge_line_after_a_good_one(env):
    m = ready(env)
    p = m.sh(f"(echo '{{\"id\":\"good\",\"t\":\"good\"}}'; head -c {HUGE} /dev/zero | tr '\\0' x; echo; "
             "echo '{\"id\":\"last\"}') | cat > c/ingest/upsert", status=None, timeout=100)
    check(p.returncode != 0 and ("too long" in p.stderr or "Bad message" in p.stderr), p.stderr)
    equal((m.ids("c", "t:good"), os.path.exists(m("c/docs/last.json"))), (["good"], True))
    kept = sum(os.stat(m("c/ingest/rejects", n)).st_size for n in os.listdir(m("c/ingest/rejects")))
    check(kept < 1 << 20, "of an oversized line only the beginning is kept, not", kept)
    still_works(m, 3)


def test_huge_line_with_load(env):
    p = env.sh(f"head -c {HUGE} /dev/zero | $LDBFS load --data $DATA --create c -", status=None, timeout=100)
    equal(p.returncode, 1, p.stderr)
    check("line 1 refused" in p.stderr, p.stderr)


for _t in (test_huge_line, test_huge_line_after_a_good_one, test_huge_line_with_load):
    _t.alone = True
    _t.timeout = 150


def test_large_documents(env):
    m = ready(env)
    almost = '{"id":"almost","t":"' + "word " * (1024 * 1024 - 100) + '"}'
    check(len(almost) < 5 * 1024 * 1024)
    m.load("c", [almost])
    equal(read(m("c/docs/almost.json")).rstrip("\n"), almost)
    equal(m.ids("c", "t:word"), ["almost"])
    with open(env.path("big.jsonl"), "w") as f:
        f.write('{"id":"big","t":"' + "x" * (100 << 20) + '"}\n{"id":"after"}\n')
    p = m.sh("cp $T/big.jsonl c/ingest/", status=None)
    check(p.returncode != 0, "100 MB document")
    equal(os.path.exists(m("c/docs/big.json")), False)
    still_works(m)
    with open(env.path("doc.json"), "w") as f:
        f.write('{"t":"' + "x" * (6 << 20) + '"}')
    p = m.sh("cp $T/doc.json c/docs/large.json", status=None)
    check("Message too long" in p.stderr, p.stderr)
    equal(os.path.exists(m("c/docs/large.json")), False)


def rejected(m, data, why=None):
    """One bad record by itself: the writer is told, nothing is stored."""
    before = m.status("c")["documents"]
    try:
        fd = os.open(m("c/ingest/upsert"), os.O_WRONLY)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        check(False, "accepted:", data[:80])
    except OSError as e:
        check(e.errno != 5, "EIO for", data[:80])
    equal(m.status("c")["documents"], before, data[:80])
    newest = json.loads(read(m("errors.jsonl")).splitlines()[-1])
    check(len(newest["message"]) > 5, newest)
    if why:
        check(why in newest["message"].lower(), newest)


def test_bad_values(env):
    m = ready(env)
    deep = 100_000
    for data in (b'{"id":"a","t":"\xff\xfe"}\n', b'{"id":"a","t":"\xed\xa0\x80"}\n', b'{"id":"a","t":"\xc0\xaf"}\n',
                 b'{"id":"a","x":NaN}\n', b'{"id":"a","x":Infinity}\n', b'{"id":"a","x":1e999}\n',
                 b'{"id":"a","x":01}\n', b'{"id":"a","x":"text"}\n', b'{"id":"a",}\n', b"{'id':'a'}\n",
                 b'{"id":"a"} trailing\n', b'{"id":"a","id":"b"}\n', b'{"id":"a","t":"\\ud800"}\n',
                 b'{"id":"a","t":' + b"[" * deep + b"]" * deep + b"}\n", b"[" * deep + b"\n", b"null\n", b"42\n",
                 b'"text"\n', b'{"id":""}\n', b'{"id":null}\n', b'{"id":["a"]}\n', b'\x00\x01\x02\n', b"{\n",
                 b'{"id":"a"\n', b'{"id":"' + b"x" * 513 + b'"}\n'):
        rejected(m, data)
    still_works(m, 1)


def test_truncated_on_interrupt(env):
    """A writer that is killed in the middle of a line flushes like a close: the cut line is rejected."""
    m = ready(env)
    p = subprocess.Popen(["bash", "-c", "exec cat > c/ingest/upsert"], cwd=m.point, stdin=subprocess.PIPE)
    p.stdin.write(b'{"id":"1","t":"whole"}\n{"id":"2","t":"whole"}\n{"id":"3","t":"cu')
    p.stdin.flush()
    wait_for("the whole lines", lambda: m.status("c")["documents"] == 2)
    p.terminate()
    p.wait(20)
    wait_for("the rejected rest", lambda: any('"cu' in read(m("c/ingest/rejects", n))
                                              for n in os.listdir(m("c/ingest/rejects"))))
    still_works(m, 3)


HOSTILE = ["../../etc/passwd", "/", ".", "..", "a/b", "%2F", "%", "100%", "a\u0000b", "\n", "tab\there", " ", " lead",
           "x" * 512, "é" * 512, "日" * 512, "\U0001f433" * 512, "\U0001f433", "\u202eevil", ".hidden", "-rf", "*", "?", "a.json",
           "sedO2I60h", "4913", "tmp5ayyl868", "x.swp", "CON", "\x7f", "\u0085", "'; rm -rf /", '"', "\\", "q?size=3", "id "]


def test_hostile_ids(env):
    m = ready(env)
    m.load("c", [{"id": i, "t": f"marker doc{n}"} for n, i in enumerate(HOSTILE)])
    names = os.listdir(m("c/docs"))
    equal(len(names), len(HOSTILE), "listed")
    equal(len(set(names)), len(HOSTILE), "distinct names")
    for name in names:
        check(len(name.encode()) <= 255, "name too long:", name)
        check("\n" not in name and "/" not in name and not name.startswith("."), repr(name))
    found = {json.loads(read(m("c/docs", n)))["id"] for n in names}
    equal(found, set(HOSTILE))
    answers = [json.loads(line)["doc"]["id"] for line in m.ask("c", "marker?size=100").split("\n") if line]
    equal(sorted(answers), sorted(HOSTILE), "by query")
    m.sh("grep -r marker c/docs | wc -l; ls -la c/docs > /dev/null; tar -cf $T/x.tar c/docs; cp -r c/docs $T/out")
    equal(len(os.listdir(env.path("out"))), len(HOSTILE))
    for n in names:
        os.unlink(m("c/docs", n))
    equal(os.listdir(m("c/docs")), [])
    equal(m.status("c")["documents"], 0)
    check(not os.path.exists(m("c/etc")), "escaped")


def test_hostile_queries(env):
    m = ready(env)
    m.load("c", [{"id": "1", "t": "one"}])
    for spec in ("(" * 5000, "a AND " * 500 + "a", '"' + "a " * 1000, "t:[", "t:[a TO", "x:[1 TO 2", "x:abc", "no:where:x", "*",
                 "t:*a*b*c*d*e*f*", "~", "^", "a^", "a^-1", "a^1e999", "t:/(/", "?size=-1", "a?size=99999999999", "a?from=x",
                 "a?sort=t:up", "a?sort=none:asc", "a?fields=", "near", "a?near=none&field=t", "a?near=1&field=none",
                 "a" * 3000, "\u00e9" * 1000, "{}", "{", '{"query":{"knn":{"field":"t"}}}', '{"query":{"bool":[' + '{"bool":[' * 300,
                 "a %zz b", "%", "t:\\", "\\", "a?format=zorp", "a?timeout=0", "NOT", "AND", "a OR", "+", "-", "-a", "[]", "{a TO b}"):
        try:
            with open(m("c/query", spec.replace("/", "%2F")), "rb") as f:
                f.read()
        except OSError as e:
            check(e.errno in (22, 2, 36, 7, 1, 33), spec[:60], e)  # EINVAL ENOENT ENAMETOOLONG E2BIG EPERM EDOM
    still_works(m)


def test_hostile_schemas(env):
    m = env.mount()
    for text in ("{", "[]", '{"indexConfigs":{"a":{"type":"zorp"}}}', '{"indexConfigs":{"a.b":{"type":"text"}}}',
                 '{"indexConfigs":{"v":{"type":"vector"}}}', '{"indexConfigs":{"v":{"type":"vector","dimensions":100000}}}',
                 '{"indexConfigs":{"id":{"type":"long"}}}', '{"indexConfigs":{"t":{"type":"text","analyzers":["zorp"]}}}',
                 "[" * 100000, '{"indexConfigs":' + '{"o":{"type":"object","objectIndexConfigs":' * 50 + "{}" + "}}" * 50 + "}"):
        name = "s"
        os.mkdir(m(name))
        try:
            with open(m(name, "schema.json"), "w") as f:
                f.write(text)
            check(False, "accepted", text[:80])
        except OSError as e:
            check(e.errno != 5, text[:80], e)
        os.rmdir(m(name))
    m.make("c", {"indexConfigs": {"t": {"type": "text"}}}, [{"id": "1", "t": "x"}])
    for text in ('{"indexConfigs":{"t":{"type":"keyword"}}}', '{"indexConfigs":{}}'):
        p = m.sh(f"echo '{text}' > c/schema.json; jq -r .indexConfigs.t.type c/schema.json")
        equal(p, "text\n")
    m.sh("""jq '.indexConfigs.n = {"type":"long"}' c/schema.json > $T/s && cp $T/s c/schema.json""")
    equal(m.sh("jq -r .indexConfigs.n.type c/schema.json"), "long\n")
