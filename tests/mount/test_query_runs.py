"""When a query by name runs: in the lookup if it is quick, else when it is opened; once, with exact sizes, at any time."""
import concurrent.futures
import json
import os

from harness import check, equal, read
from test_embeddings import Fake, schema

SLOW = " ".join(f"t:w*{a}{b}{c}" for a in range(10) for b in range(10) for c in range(4))


def fill(env, m):
    with open(m("c/ingest/upsert"), "w", encoding="utf-8") as f:
        for i in range(20_000):
            f.write(json.dumps({"id": str(i), "t": " ".join(f"w{env.random.randrange(5000):04}" for _ in range(20))}) + "\n")
    equal(m.status("c")["documents"], 20_000)


def test_sizes_are_exact(env):
    """Quick ones and such as take longer than a lookup may, looked at and opened in any order."""
    m = env.mount()
    m.make("c", {"indexConfigs": {"t": {"type": "text"}}})
    fill(env, m)
    for n, spec in enumerate((SLOW + "?size=10000", "t:w0001", "t:none", SLOW + "?size=2000&from=3")):
        path = m("c/query", spec)
        if n % 2:
            size, answer = os.stat(path).st_size, read(path)
        else:
            answer, size = read(path), os.stat(path).st_size
        equal(len(answer.encode()), size, spec[:80])
        equal(answer, env.ldbfs("query", "c", spec), spec[:80])
    check(read(m("c/query", "t:none")) == "", "nothing is an empty file")
    equal(read(m("errors.jsonl")), "", "a run that was cut short is no error")


def test_everybody_gets_the_answer(env):
    m = env.mount()
    m.make("c", {"indexConfigs": {"t": {"type": "text"}}})
    fill(env, m)
    for spec in (SLOW + "?size=1000", "t:w00*?size=1000"):
        path = m("c/query", spec)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            sizes = [pool.submit(lambda: os.stat(path).st_size) for _ in range(8)]
            answers = [pool.submit(read, path) for _ in range(8)]
        answers = [a.result() for a in answers]
        check(answers[0] and all(a == answers[0] for a in answers), spec[:80])
        check(all(s.result() == len(answers[0].encode()) for s in sizes), spec[:80])


def test_an_answer_is_of_its_own_time(env):
    """Every open sees what was written before it, however often the name was looked up before."""
    m = env.mount()
    m.make("c", docs=[{"id": "0", "n": 0}])
    path = m("c/query", "*:*?size=1")
    for i in range(1, 50):
        os.stat(path)
        with open(m("c/ingest/upsert"), "w", encoding="utf-8") as f:
            f.write(json.dumps({"id": "0", "n": i}) + "\n")
        if i % 3:
            os.stat(path)
        equal(json.loads(read(path))["doc"]["n"], i)


def test_a_provider_is_asked_once(env):
    with Fake(env) as fake:
        m = env.mount()
        m.make("c", schema(), [{"id": "1", "body": "whale"}])
        before = fake.state()["requests"]
        check(read(m("c/query", "*:*?like=ship&field=emb")), "an answer")
        equal(fake.state()["requests"], before + 1)
