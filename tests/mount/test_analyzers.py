"""Japanese and Korean fields, several analyzers on one field, and a machine without the dictionary."""
import errno
import json

from harness import Failure, append, check, equal, read

SCHEMA = {"indexConfigs": {
    "ja": {"type": "text", "analyzers": ["japanese"]},
    "ko": {"type": "text", "analyzers": ["korean"]},
    "all": {"type": "text", "analyzers": ["standard", "english", "japanese", "korean"]}}}
DOCS = [
    {"id": "1", "ja": "東京都に住んでいた猫は魚を食べなかった。"},
    {"id": "2", "ja": "京都の寺院とサーバー"},
    {"id": "3", "ko": "대한민국의 수도는 서울이다."},
    {"id": "4", "ko": "학교에서는 축구를 주도하였다"},
    {"id": "5", "all": "The dogs were running in 東京都 and 서울에서"},
]
FOUND = {
    "ja:東京": ["1"], "ja:京都": ["2"], "ja:住む": ["1"], "ja:食べる": ["1"], "ja:は": [], "ja:ｻｰﾊﾞｰ": ["2"],
    'ja:"東京都"': ["1"], 'ja:"猫 魚"~2': ["1"], 'ja:"魚 猫"': [], "ja:東*": ["1"],
    "ko:대한민국": ["3"], "ko:민국은": ["3"], "ko:학교가": ["4"], 'ko:"대한민국 수도"': ["3"],
    'ko:"수도 대한민국"': [], "ko:주도한": ["4"],
    "all:run": ["5"], "all.english:dog": ["5"], "all.standard:dog": [], "all.standard:dogs": ["5"],
    "all.japanese:東京": ["5"], "all.korean:서울": ["5"], 'all.japanese:"東京 都"': ["5"],
    "all.standard:*": ["5"], "サーバ": ["2"], "서울": ["3"],
}


def refused(act, code, *what):
    try:
        act()
    except OSError as e:
        return equal(e.errno, code, *what)
    raise Failure(f"not refused: {what}")


def check_found(m, name, gone=()):
    for query, ids in FOUND.items():
        equal(m.ids(name, query), [i for i in ids if i not in gone], query)


def test_finds(env):
    m = env.mount()
    m.make("c", SCHEMA, DOCS)
    check_found(m, "c")
    env.ldbfs("build", "c")
    check_found(m, "c")
    for query in ("all.french:x", "ja.english:x", "ja.japanese.standard:x"):
        refused(lambda: m.ids("c", query), errno.EINVAL, query)
    m.load("c", ["\"1\"", {"id": "3"}], target="delete")
    check_found(m, "c", gone=("1", "3"))
    m.load("c", [{"id": "2", "ja": "大阪"}])
    equal(m.ids("c", "ja:京都"), [])
    equal(m.ids("c", "ja:大阪"), ["2"])
    env.ldbfs("build", "c")
    equal(m.ids("c", "ja:大阪"), ["2"])
    env.check_store()


def test_scores_do_not_depend_on_what_is_built(env):
    m = env.mount()
    words = ["東京都", "首都", "猫", "대한민국의", "학교가", "running", "dogs", "食べた"]
    docs = [{"id": str(i), "all": " ".join(env.random.choices(words, k=1 + i % 12))} for i in range(200)]
    for name, pieces in (("one", 1), ("many", 7)):
        m.make(name, SCHEMA)
        for k in range(pieces):
            m.load(name, docs[k::pieces])
            if k % 2:
                env.ldbfs("build", name)
        m.load(name, [json.dumps(d["id"]) for d in docs[::9]], target="delete")
    for query in ("all.japanese:東京都", "all.korean:대한민국", 'all.japanese:"首都 猫"', "all:dog"):
        spec = query + "?size=50&format=jsonl"
        a, b = ([(h["score"], h["doc"]["id"]) for h in map(json.loads, m.ask(n, spec).splitlines())]
                for n in ("one", "many"))
        check(a, query)
        equal(a, b, query)


def test_no_dictionary(env):
    m = env.mount()
    m.make("c", SCHEMA, DOCS)
    m.make("en", {"indexConfigs": {"t": {"type": "text", "analyzers": ["english"]}}}, [{"id": "1", "t": "whales"}])
    env.ldbfs("build", "c")
    m.stop()
    env.environ["LDBFS_MECAB_DIC"] = "/nonexistent"
    m = env.mount(name="without")
    equal(m.ids("en", "t:whale"), ["1"])
    equal(m.ids("c", "ko:학교"), ["4"])
    equal(json.loads(read(m("c/docs/1.json")))["id"], "1")
    refused(lambda: m.ids("c", "ja:東京"), errno.EINVAL, "a query")
    p = env.ldbfs("query", "c", "ja:東京", status=None)
    check("mecab-ipadic-utf8" in p.stderr, p.stderr)
    refused(lambda: append(m("c/ingest/upsert"), '{"id":"6","ja":"犬"}\n'), errno.EOPNOTSUPP, "a write")
    p = env.ldbfs("load", "c", "-", stdin='{"id":"6"}\n', status=None)
    check(p.returncode and "mecab-ipadic-utf8" in p.stderr, p.stderr)
    env.sh("echo '%s' > $T/ja.json" % json.dumps(SCHEMA))
    p = env.ldbfs("load", "--create", "--schema", env.path("ja.json"), "d", "-", stdin="", status=None)
    check(p.returncode and "mecab-ipadic-utf8" in p.stderr, p.stderr)
    m.load("c", ["\"1\""], target="delete")  # its terms come from the postings
    equal(m.ids("c", "*:*"), ["2", "3", "4", "5"])
    env.ldbfs("build", "c")
    m.stop()
    del env.environ["LDBFS_MECAB_DIC"]
    m = env.mount(name="again")
    check_found(m, "c", gone=("1",))
    env.check_store()
