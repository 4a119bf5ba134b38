"""Managed embeddings through the mount, with a provider that the tests run themselves (tests/fake/embeddings.py)."""
import errno
import importlib.util
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request

from harness import ROOT, append, check, die_with_parent, equal, need, read, short, wait_for

FAKE = os.path.join(ROOT, "tests/fake/embeddings.py")
KEY = "sk-secret-of-the-test"
WORDS = "whale ship harbour storm garden rose oak tea train rail engine steam novel poem letter".split()


def load_fake():
    spec = importlib.util.spec_from_file_location("fake_embeddings", FAKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vector = load_fake().vector


class Fake:
    """A running provider; the mounts of env use it."""

    def __init__(self, env, dimensions=8, key=KEY, tls=None):
        command = [sys.executable, FAKE, "--dimensions", str(dimensions), *(["--key", key] if key else []),
                   *(["--tls", tls] if tls else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=die_with_parent)
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{int(self.process.stdout.readline())}"
        self.url = self.base + "/v1"
        env.environ.update(LDBFS_EMBEDDING_URL=self.url, LDBFS_EMBEDDING_KEY=KEY, no_proxy="127.0.0.1",
                           LDBFS_EMBEDDING_RETRIES="1")

    def control(self, fail=(), always=None):
        body = json.dumps({"fail": [f if isinstance(f, list) else [f, {}] for f in fail],
                           "always": [always, {}] if isinstance(always, str) else always}).encode()
        urllib.request.urlopen(urllib.request.Request(self.base + "/control", body)).read()

    def state(self):
        with urllib.request.urlopen(self.base + "/control") as f:
            return json.load(f)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def schema(dimensions=8, model="test-model", source="body", **more):
    return {"dynamic": True, "indexConfigs": {
        "body": {"type": "text", "analyzers": ["english"]},
        "emb": {"type": "vector", "managedEmbedding": True,
                "embedding": {"provider": "openai", "model": model, "sourceField": source,
                              "dimensions": dimensions, **more}}}}


def float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def near(text, other, dimensions=8):
    """Cosine as a score."""
    a, b = vector(text, dimensions), vector(other, dimensions)
    return (1 + sum(x * y for x, y in zip(a, b))) / 2


def run(m, name, request):
    """query/.run: write a request, read the answer."""
    fd = os.open(m(name, "query/.run"), os.O_RDWR)
    try:
        os.write(fd, json.dumps(request).encode())
        out = b""
        while piece := os.read(fd, 1 << 20):
            out += piece
        return json.loads(out)
    finally:
        os.close(fd)


def knn(text, k=10, field="emb", **more):
    return {"query": {"knn": {"field": field, "queryText": text, "k": k, **more}}, "size": k, "format": "json"}


def stored(m, name, doc_id):
    return json.loads(read(m(name, "docs", doc_id + ".json")))


def same_vector(got, text, dimensions=8):
    want = vector(text, dimensions)
    return got is not None and len(got) == dimensions and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7) for a, b in zip(got, want))


def fails_with(expected, action, *args):
    try:
        action(*args)
    except OSError as e:
        equal(errno.errorcode[e.errno], expected)
        return
    check(False, "no error, expected", expected)


def last_error(m):
    return json.loads(read(m("errors.jsonl")).splitlines()[-1])


def reject_text(m, name):
    folder = m(name, "ingest/rejects")
    return "".join(read(os.path.join(folder, f)) for f in sorted(os.listdir(folder)))


def sentences(env, n):
    return [" ".join(env.random.choice(WORDS) for _ in range(env.random.randint(1, 6))) for _ in range(n)]


def test_vectors_are_made_and_found(env):
    with Fake(env) as fake:
        m = env.mount()
        m.make("c", schema())
        texts = sentences(env, 60)
        docs = [{"id": f"{i:03}", "body": t, "group": "even" if i % 2 == 0 else "odd"} for i, t in enumerate(texts)]
        m.load("c", docs)
        equal(fake.state()["texts"], len(set(texts)), "equal texts are embedded once")
        for i, t in enumerate(texts[:10]):
            check(same_vector(stored(m, "c", f"{i:03}")["emb"], t), "the vector of", t)
        for built in (False, True):
            if built:
                env.ldbfs("build", "c")
            for text in sentences(env, 5):
                got = run(m, "c", knn(text))["docs"]
                want = sorted(docs, key=lambda d: (-near(text, d["body"]), d["id"]))[:10]
                for hit, doc in zip(got, want):
                    check(abs(hit["score"] - near(text, doc["body"])) < 1e-5, text, hit, doc)
                equal(len(got), 10)
                check(all("emb" not in hit["doc"] for hit in got), "vectors are hidden")
                odd = run(m, "c", knn(text, filter="group:odd"))["docs"]
                check(all(hit["doc"]["group"] == "odd" for hit in odd) and len(odd) == 10, odd)
        with_vectors = run(m, "c", dict(knn("whale", k=1), includeVectors=True))["docs"][0]["doc"]
        check(same_vector(with_vectors["emb"], with_vectors["body"]))
        saved = json.dumps(knn("storm at sea", k=3))
        with open(m("c/queries/sea.json"), "w") as f:
            f.write(saved)
        equal(json.loads(m.ask("c", "@sea")), json.loads(env.ldbfs("query", "c", saved)) | {
            "took": json.loads(m.ask("c", "@sea"))["took"]})
        config = json.loads(read(m("c/schema.json")))["indexConfigs"]["emb"]
        equal(config, {"type": "vector", "managedEmbedding": True, "embedding": {
            "provider": "openai", "model": "test-model", "sourceField": "body", "dimensions": 8,
            "similarity": "cosine"}})
        env.check_store()


def test_like(env):
    """A text's meaning in one line of shell."""
    with Fake(env) as fake:
        m = env.mount()
        m.make("c", schema(), [{"id": str(i), "body": t, "n": i} for i, t in enumerate(
            ["whale ship", "rose garden", "steam engine", "rose oak", "tea"])])
        want = [h["doc"]["id"] for h in run(m, "c", knn("a rose", k=3))["docs"]]
        equal(m.sh("cat 'c/query/*:*?like=a rose&size=3&format=ids'").split(), want)
        equal(m.sh("cat 'c/query/*:*?like=a rose&size=3&format=ids&field=emb'").split(), want)
        filtered = [h["doc"]["id"] for h in run(m, "c", knn("a rose", k=2, filter="n:[2 TO *]"))["docs"]]
        equal(m.ids("c", "n:[2 TO *]?like=a rose&size=2"), filtered)
        equal(set(m.ids("c", "tea?like=a rose&fuse=rrf&size=3")[:2]), {"4", want[0]}, "hybrid")
        before = fake.state()["requests"]
        for spec in ("*:*?like=a&near=1", "*:*?like=a&field=body", "*:*?like= &size=1", "*:*?like=a&field=nothing"):
            fails_with("EINVAL", m.ask, "c", spec)
        m.make("d", None, [{"id": "1", "v": [float(i) for i in range(1, 9)]}])
        fails_with("EINVAL", m.ask, "d", "*:*?like=a")
        check("managed" in last_error(m)["message"], last_error(m))
        equal(fake.state()["requests"], before)


def test_several_texts_in_one_query(env):
    with Fake(env) as fake:
        m = env.mount()
        both = schema()
        both["indexConfigs"]["title"] = {"type": "keyword"}
        both["indexConfigs"]["title_emb"] = {"type": "vector", "managedEmbedding": True, "embedding": {
            "provider": "openai", "model": "other", "sourceField": "title", "dimensions": 8, "similarity": "dot_product"}}
        m.make("c", both, [{"id": "1", "title": "whale", "body": "a ship"}, {"id": "2", "title": "rose", "body": "a garden"}])
        equal(sorted(set(fake.state()["models"])), ["other", "test-model"])
        answer = run(m, "c", {"query": {"bool": [
            {"knn": {"field": "emb", "queryText": "a garden", "k": 2}},
            {"knn": {"field": "title_emb", "queryText": "rose", "k": 2}},
            {"queryString": {"query": "garden"}, "occur": "must"}]}, "format": "json"})
        equal([h["doc"]["id"] for h in answer["docs"]], ["2"])
        check(answer["maxScore"] > 2 - 1e-5, answer)


def test_documents_without_text(env):
    with Fake(env):
        m = env.mount()
        m.make("c", schema(), [{"id": "1", "body": "whale"}, {"id": "2"}, {"id": "3", "body": None}, {"id": "4", "body": " \n"},
                               {"id": "5", "body": ["white", "whale"]}, {"id": "6", "body": [], "emb": None}])
        equal(sorted(h["doc"]["id"] for h in run(m, "c", knn("whale"))["docs"]), ["1", "5"])
        check(same_vector(stored(m, "c", "5")["emb"], "white\nwhale"))
        equal(json.loads(m.ask("c", "*:*?format=json"))["total"], 6)


def test_updates(env):
    with Fake(env) as fake:
        m = env.mount()
        m.make("c", schema(), [{"id": str(i), "body": f"whale {i}", "n": 1} for i in range(5)])
        before = fake.state()["requests"]
        m.load("c", [{"id": "0", "n": 2}], "update")
        equal(fake.state()["requests"], before, "an update of other fields asks nobody")
        check(same_vector(stored(m, "c", "0")["emb"], "whale 0"))
        m.load("c", [{"id": "1", "body": "rose garden"}, {"id": "2", "body": None}, {"id": "3", "body": ""}], "update")
        check(same_vector(stored(m, "c", "1")["emb"], "rose garden"))
        for gone in "23":
            equal(stored(m, "c", gone)["emb"], None)
        equal(sorted(h["doc"]["id"] for h in run(m, "c", knn("whale"))["docs"]), ["0", "1", "4"])
        before = fake.state()["requests"]
        fails_with("ENOENT", m.load, "c", [{"id": "99", "body": "nobody"}], "update")
        equal(fake.state()["requests"], before, "a patch of nothing costs nothing")
        env.ldbfs("build", "c")
        check(same_vector(stored(m, "c", "1")["emb"], "rose garden"))
        env.check_store()


def test_a_vector_that_comes_along(env):
    with Fake(env) as fake:
        m = env.mount()
        m.make("c", schema(), [{"id": "1", "body": "white whale", "n": 1}])
        other = vector("other", 8)
        fails_with("EBADMSG", m.load, "c", [{"id": "2", "body": "ship", "emb": other}])
        check('is made from \\"body\\"' in read(m("errors.jsonl")), read(m("errors.jsonl")))
        fails_with("EBADMSG", m.load, "c", [{"id": "1", "emb": other}], "update")
        fails_with("EBADMSG", m.load, "c", [{"id": "1", "emb": None}], "update")
        fails_with("EBADMSG", m.load, "c", [{"id": "1", "emb": stored(m, "c", "1")["emb"]}], "update")
        equal(sorted(m.docs("c")), ["1"])
        # Read, edit, write back, as editors and sed do: the stored vector may come along.
        before = fake.state()["requests"]
        m.sh("""sed -i 's/"n":1/"n":2/; s/"n": 1/"n": 2/' c/docs/1.json""")
        equal((stored(m, "c", "1")["n"], fake.state()["requests"]), (2, before), "the same text is not embedded again")
        m.sh("sed -i 's/white whale/red rose/' c/docs/1.json")
        check(same_vector(stored(m, "c", "1")["emb"], "red rose"))
        doc = stored(m, "c", "1")
        with open(m("c/docs/1.json"), "w") as f:
            f.write(json.dumps(dict(doc, body=None), indent=2))
        equal(stored(m, "c", "1")["emb"], None)
        equal(run(m, "c", knn("red"))["docs"], [])
        env.ldbfs("build", "c")
        equal(run(m, "c", knn("red"))["docs"], [], "built, and no document has a vector")


def test_refused_texts(env):
    with Fake(env) as fake:
        m = env.mount()
        m.make("c", schema())
        docs = [{"id": f"{i:03}", "body": f"text {i}" + (" POISON" if i in (7, 42) else "")} for i in range(100)]
        fails_with("EBADMSG", m.load, "c", docs)
        equal(len(m.docs("c")), 98)
        text = reject_text(m, "c")
        check(text.count("this text is poison") >= 2 and 'field \\"emb\\"' in text, text)
        check(last_error(m)["errno"] == "EBADMSG" and "poison" in last_error(m)["message"], last_error(m))
        fails_with("EBADMSG", m.load, "c", [{"id": "000", "body": "POISON"}], "update")
        equal(stored(m, "c", "000")["body"], "text 0", "nothing half done")
        for kind, code in (("dimension", "EDOM"), ("garbage", "EREMOTEIO"), ("401", "EACCES"), ("quota", "EDQUOT"),
                           ("zero", "EREMOTEIO"), ("500", "EHOSTUNREACH"), ("429", "EBUSY")):
            fake.control(always=kind)
            fails_with(code, m.load, "c", [{"id": "new", "body": "good"}])
            fails_with(code if kind != "zero" else "EREMOTEIO", run, m, "c", knn("good"))
            check(not os.path.exists(m("c/docs/new.json")), kind)
        fake.control(["500", "429"])
        env.environ["LDBFS_EMBEDDING_RETRIES"] = "3"
        retrying = env.mount(name="retrying")
        retrying.load("c", [{"id": "new", "body": "good"}])
        check(same_vector(stored(m, "c", "new")["emb"], "good"))
        check(KEY not in read(m("errors.jsonl")) + reject_text(m, "c") + m.output(), "the key is not told")
        env.check_store()


def test_no_provider(env):
    for name in ("LDBFS_EMBEDDING_URL", "LDBFS_EMBEDDING_KEY", "LDBFS_EMBEDDING_KEY_FILE", "OPENAI_API_KEY"):
        env.environ.pop(name, None)
    m = env.mount()
    m.make("c", schema(), [{"id": "empty"}])
    fails_with("ENOKEY", m.load, "c", [{"id": "1", "body": "whale"}])
    check("LDBFS_EMBEDDING_KEY" in last_error(m)["message"], last_error(m))
    fails_with("ENOKEY", run, m, "c", knn("whale"))
    equal(sorted(m.docs("c")), ["empty"])
    m.stop()
    env.environ.update(LDBFS_EMBEDDING_URL="http://127.0.0.1:1/v1", LDBFS_EMBEDDING_RETRIES="0", no_proxy="127.0.0.1")
    m = env.mount()
    fails_with("EHOSTUNREACH", m.load, "c", [{"id": "1", "body": "whale"}, {"id": "2", "body": "ship"}])
    m_error = last_error(m)
    check("embedding provider" in m_error["message"], m_error)
    fails_with("EHOSTUNREACH", run, m, "c", knn("whale"))
    m.load("c", [{"id": "3"}])
    equal(sorted(m.docs("c")), ["3", "empty"], "what needs no vector goes in")
    # A large file must not wait for each of its pieces.
    big = "".join(json.dumps({"id": str(i), "body": f"whale {i} " + "x" * 1000}) + "\n" for i in range(10000))
    with open(env.path("big.jsonl"), "w") as f:
        f.write(big)
    start = time.monotonic()
    p = env.sh(f"cp $T/big.jsonl {m('c/ingest')}", status=None)
    check(p.returncode and time.monotonic() - start < 60, p)
    equal(sorted(m.docs("c")), ["3", "empty"])


def test_command_line_options(env):
    with Fake(env) as fake:
        env.environ.pop("LDBFS_EMBEDDING_URL")
        env.environ["LDBFS_EMBEDDING_KEY"] = "wrong"
        with open(env.path("key"), "w") as f:
            f.write(KEY + "\n")
        with open(env.path("s.json"), "w") as f:
            json.dump(schema(), f)
        options = ["--embedding-url", fake.url, "--embedding-key-file", env.path("key")]
        env.ldbfs("load", "--create", "--schema", env.path("s.json"), *options, "--quiet", "c", "-",
                  stdin='{"id":"1","body":"whale"}\n')
        answer = env.ldbfs("query", *options, "c", json.dumps(knn("whale", k=1)))
        equal(json.loads(answer)["docs"][0]["doc"]["id"], "1")
        p = env.ldbfs("load", "--embedding-url", fake.url, "c", "-", status=None, stdin='{"id":"2","body":"ship"}\n')
        equal(p.returncode, 1)
        check("401" in p.stderr and KEY not in p.stderr, p.stderr)
        m = env.mount(*options)
        m.load("c", [{"id": "3", "body": "ship"}])
        equal(sorted(m.docs("c")), ["1", "3"])
        with open(f"/proc/{m.pid()}/cmdline") as f:
            check(KEY not in f.read(), "the key is not in argv")


def test_tls(env):
    need("openssl")
    env.sh("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
           "-keyout key.pem -out cert.pem 2>/dev/null; cat key.pem cert.pem > both.pem")
    with Fake(env, tls=env.path("both.pem")) as fake:
        equal(fake.url[:8], "https://")
        m = env.mount()
        m.make("c", schema())
        fails_with("EHOSTUNREACH", m.load, "c", [{"id": "1", "body": "whale"}])
        check("certificate" in last_error(m)["message"], last_error(m))
        env.environ["SSL_CERT_FILE"] = env.path("cert.pem")
        trusting = env.mount(name="trusting")
        trusting.load("c", [{"id": "2", "body": "whale"}])
        equal(sorted(m.docs("c")), ["2"])


def test_schema_rules(env):
    m = env.mount()

    def refuse(config, *words, more=None):
        os.mkdir(m("t"))
        try:
            with open(m("t/schema.json"), "w") as f:
                f.write(json.dumps({"indexConfigs": {"body": {"type": "text"}, "n": {"type": "long"}, **(more or {}), "emb": config}}))
        except OSError:
            text = last_error(m)["message"]
            check(all(w in text for w in words), text, words)
        else:
            check(False, "accepted:", config)
        finally:
            m.sh("rmdir t || rm -r t")

    def managed(**embedding):
        return {"type": "vector", "managedEmbedding": True, "embedding": embedding}

    good = dict(provider="openai", model="text-embedding-3-small", sourceField="body")
    refuse({"type": "vector", "managedEmbedding": True}, "embedding")
    refuse(managed(**dict(good, provider="acme")), "provider")
    refuse(managed(**dict(good, model="unknown-model")), "dimensions")
    refuse(managed(**dict(good, sourceField="nothing")), "nothing")
    refuse(managed(**dict(good, sourceField="n")), "long")
    refuse(managed(**dict(good, dimensions=1537)), "1536")
    refuse(managed(**dict(good, model="text-embedding-ada-002", dimensions=512)), "1536")
    refuse(managed(**dict(good, similarity="near")), "similarity")
    refuse(managed(**dict(good, extra=1)), "extra")
    refuse(dict(managed(**good), dimensions=3), "dimensions")
    for i, (more, want) in enumerate([({}, 1536), ({"model": "text-embedding-3-large"}, 3072), ({"dimensions": 256}, 256),
                                      ({"model": "text-embedding-ada-002"}, 1536)]):
        m.make(f"g{i}", {"indexConfigs": {"body": {"type": "text"}, "emb": managed(**dict(good, **more))}})
        equal(json.loads(read(m(f"g{i}/schema.json")))["indexConfigs"]["emb"]["embedding"]["dimensions"], want)
    text = read(m("g0/schema.json"))
    with open(m("g0/schema.json"), "w") as f:
        f.write(text)  # unchanged: fine
    for was, now in (("3-small", "3-large"), ('"body", "dimensions"', '"id", "dimensions"'), ("1536", "512"), ("cosine", "euclidean")):
        check(was in text, was)

        def change():
            with open(m("g0/schema.json"), "w") as f:
                f.write(text.replace(was, now))
        fails_with("EINVAL", change)
    equal(read(m("g0/schema.json")), text)
    m.make("full", {"dynamic": True, "indexConfigs": {"body": {"type": "text"}}}, [{"id": "1", "body": "x"}])

    def extend():
        with open(m("full/schema.json"), "w") as f:
            f.write(json.dumps({"indexConfigs": {"id": {"type": "keyword"}, "body": {"type": "text"}, "emb": managed(**good)}}))
    fails_with("EINVAL", extend)
    check("empty" in last_error(m)["message"], last_error(m))


def test_declared_while_others_write(env):
    """Either the field is refused because documents are there, or no document goes in without its vector."""
    with Fake(env):
        m, other = env.mount(), env.mount(name="other")
        declared = 0
        for i in range(12):
            name = m.make(f"c{i}", {"dynamic": True, "indexConfigs": {"body": {"type": "text", "analyzers": ["english"]}}})
            started = threading.Event()

            def write():
                started.set()
                for j in range(5):
                    other.load(name, [{"id": str(j), "body": f"text {j}"}])

            writer = threading.Thread(target=write)
            writer.start()
            started.wait()
            time.sleep(env.random.random() * 0.01 * (i % 3))
            try:
                with open(m(name, "schema.json"), "w") as f:
                    f.write(json.dumps(schema() | {"indexConfigs": {"id": {"type": "keyword"}, **schema()["indexConfigs"]}}))
                declared += 1
            except OSError as e:
                equal(e.errno, errno.EINVAL)
            writer.join()
            managed = "emb" in json.loads(read(m(name, "schema.json")))["indexConfigs"]
            for doc in m.docs(name).values():
                equal(same_vector(doc.get("emb"), doc["body"]), managed, name, doc)
        print(f"declared in {declared} of 12 rounds")


def test_query_text_rules(env):
    with Fake(env) as fake:
        m = env.mount()
        plain = schema()
        plain["indexConfigs"]["v"] = {"type": "vector", "dimensions": 8}
        m.make("c", plain, [{"id": "1", "body": "whale", "v": vector("whale", 8)}])
        before = fake.state()["requests"]
        for clause, word in (({"field": "v", "queryText": "whale", "k": 1}, "no managed embedding"),
                             ({"field": "body", "queryText": "whale", "k": 1}, "vector field"),
                             ({"field": "nothing", "queryText": "whale", "k": 1}, "nothing"),
                             ({"field": "emb", "queryText": " ", "k": 1}, "queryText"),
                             ({"field": "emb", "queryText": 7, "k": 1}, "queryText"),
                             ({"field": "emb", "queryText": "x", "queryVector": [0] * 8, "k": 1}, "not both")):
            fails_with("EINVAL", run, m, "c", {"query": {"knn": clause}})
            check(word in read(m("errors.jsonl")).splitlines()[-1], word, last_error(m))
        equal(fake.state()["requests"], before)
        by_vector = {"query": {"knn": {"field": "emb", "queryVector": vector("whale", 8), "k": 1}}, "format": "json"}
        equal(run(m, "c", by_vector)["docs"], run(m, "c", knn("whale", k=1))["docs"])


def test_slow_provider(env):
    with Fake(env) as fake:
        m = env.mount()
        m.make("c", schema(), [{"id": "1", "body": "whale"}])
        fake.control(always=["slow", {"seconds": 5}])
        start = time.monotonic()
        fails_with("ETIMEDOUT", run, m, "c", dict(knn("ship"), timeout="300ms"))
        check(time.monotonic() - start < 3, "the time limit holds")
        with open(m("c/queries/q.json"), "w") as f:
            f.write(json.dumps(knn("ship")))
        before = fake.state()["requests"]
        p = subprocess.Popen(["cat", m("c/query/@q")], stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        wait_for("the request", lambda: fake.state()["requests"] > before)
        start = time.monotonic()
        p.send_signal(signal.SIGINT)
        p.communicate()
        check(time.monotonic() - start < 2, "Ctrl-C ends it")
        start = time.monotonic()
        writer = threading.Thread(target=m.load, args=("c", [{"id": "2", "body": "slow"}]))
        writer.start()
        equal(m.ids("c", "whale"), ["1"], "others go on")
        m.load("c", [{"id": "3"}])
        check(time.monotonic() - start < 4, "while a writer waits for vectors")
        fake.control()
        writer.join()
        equal(sorted(m.docs("c")), ["1", "2", "3"])


def test_history_needs_no_provider(env):
    fake = Fake(env)
    m = env.mount()
    m.make("c", schema(), [{"id": str(i), "body": f"whale {i}"} for i in range(20)])
    env.ldbfs("build", "--snapshot", "first", "c")
    m.load("c", [{"id": str(i), "body": f"rose {i}"} for i in range(10)])
    query = {"query": {"knn": {"field": "emb", "queryVector": vector("rose 3", 8), "k": 5}}, "format": "json"}
    want = run(m, "c", query)["docs"]
    fake.stop()
    env.ldbfs("build", "--merge", "--full", "c")
    equal(run(m, "c", query)["docs"], want, "built without the provider")
    env.ldbfs("clone", "c", "d")
    equal([dict(h, collection="c") for h in run(m, "d", query)["docs"]], want)
    env.ldbfs("restore", "c", "first")
    check(same_vector(stored(m, "c", "3")["emb"], "whale 3"))
    m.kill()
    m = env.mount()
    check(same_vector(stored(m, "c", "3")["emb"], "whale 3"))
    env.check_store()


def test_kill_while_embedding(env):
    """Whatever is there is whole: no document without the vector of its own text; what was acknowledged is there."""
    with Fake(env) as fake:
        acknowledged, serial = {}, [0]
        for _ in range(4):
            m = env.mount("--build-age=30")
            if not os.path.isdir(m("c")):
                m.make("c", schema())
            fake.control(always=["slow", {"seconds": 0.02}])
            stop = threading.Event()

            def write(worker):
                while not stop.is_set():
                    serial[0] += 1
                    docs = [{"id": f"{worker}-{i}", "body": f"text {serial[0]} {i}"} for i in range(20)]
                    try:
                        m.load("c", docs)
                    except OSError:
                        return
                    acknowledged.update((d["id"], d["body"]) for d in docs)

            writers = [threading.Thread(target=write, args=(w,)) for w in range(3)]
            for w in writers:
                w.start()
            seen = fake.state()["requests"] + env.random.randint(5, 25)
            wait_for("some requests", lambda: fake.state()["requests"] >= seen)
            os.kill(m.pid(), signal.SIGKILL)
            m.kill()
            stop.set()
            for w in writers:
                w.join()
        fake.control()
        m = env.mount()
        docs = m.docs("c")
        check(set(acknowledged) <= set(docs), short(set(acknowledged) - set(docs)))
        for doc in docs.values():
            check(same_vector(doc.get("emb"), doc["body"]), doc)
        total = json.loads(m.ask("c", "emb:*?format=json&size=0"))["total"]
        equal(total, len(docs))
        env.check_store()


def test_many(env):
    """Several groups and requests; memory stays bounded."""
    with Fake(env, dimensions=256, key=None) as fake:
        m = env.mount()
        m.make("c", schema(256))
        with open(env.path("many.jsonl"), "w") as f:
            for i in range(6000):
                f.write(json.dumps({"id": f"{i:05}", "body": f"{WORDS[i % len(WORDS)]} {i // 2}"}) + "\n")
        m.sh(f"cp {env.path('many.jsonl')} c/ingest/")
        equal(len(m.ids("c", "*:*?size=10000")), 6000)
        state = fake.state()
        check(state["texts"] <= 6000 and state["requests"] < 100, state["texts"], state["requests"])
        for i in (0, 1, 3000, 5999):
            check(same_vector(stored(m, "c", f"{i:05}")["emb"], f"{WORDS[i % len(WORDS)]} {i // 2}", 256), i)
        equal(run(m, "c", knn("tea 303", k=1))["docs"][0]["doc"]["id"], "00607")
