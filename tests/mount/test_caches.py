"""What is kept in memory, by the kernel or by the mount, never hides what another process has done."""
import errno
import os

from harness import check, equal, read, wait_for

MARKS = [0]


def settle(env):
    """Makes the logs' directories look unchanged for long, each time anew, so that their lists are kept from now on."""
    for cid in os.listdir(env.path("data", "log")):
        MARKS[0] += 1
        os.utime(env.path("data", "log", cid), (10**9 + MARKS[0],) * 2)


def fails(code, function, *args, **more):
    try:
        found = function(*args, **more)
    except OSError as e:
        equal(e.errno, code, args)
    else:
        check(False, f"no error {errno.errorcode[code]}", args, found)


def test_collections_of_another_mount(env):
    a, b = env.mount(name="a"), env.mount(name="b")
    for i in range(25):
        a.make("c", docs=[{"id": f"{i}", "title": f"number n{i}"}])
        settle(env)
        for _ in range(2):
            equal(sorted(b.docs("c")), [f"{i}"])
            equal(b.ids("c", f"n{i}"), [f"{i}"])
            os.stat(b(f"c/docs/{i}.json"))
            fails(errno.ENOENT, os.stat, b(f"c/docs/{i - 1}.json"))
        if i % 3 == 0:
            os.rename(a("c"), a("other"))
            fails(errno.ENOENT, os.stat, b("c"))
            fails(errno.ENOENT, os.stat, b(f"c/docs/{i}.json"))
            equal(b.ids("other", f"n{i}"), [f"{i}"])
            os.rename(b("other"), b("c"))
            fails(errno.ENOENT, os.stat, a("other/docs"))
        (a, b)[i % 2].sh("rmdir c")
        for m in (a, b):
            fails(errno.ENOENT, os.stat, m("c"))
            fails(errno.ENOENT, os.stat, m(f"c/docs/{i}.json"))
            fails(errno.ENOENT, read, m(f"c/query/n{i}"))


def test_documents_of_another_mount(env):
    a, b = env.mount(name="a"), env.mount(name="b")
    a.make("c", docs=[{"id": "x", "n": 0}])
    for i in range(1, 40):
        settle(env)
        old = os.stat(b("c/docs/x.json"))
        equal(old.st_size, len(read(b("c/docs/x.json"))))
        with open(b("c/docs/x.json"), encoding="utf-8") as held:
            with open(a("c/docs/x.json"), "w", encoding="utf-8") as f:
                f.write('{"id":"x","n":"%s"}' % ("y" * i))
            new = os.stat(b("c/docs/x.json"))
            equal(new.st_size, len('{"id":"x","n":""}\n') + i)
            equal(read(b("c/docs/x.json")), '{"id":"x","n":"%s"}\n' % ("y" * i))
            check(new.st_ino != old.st_ino, "a version of a document is a file of its own")
            equal(os.fstat(held.fileno()).st_size, old.st_size)
    settle(env)
    os.unlink(a("c/docs/x.json"))
    fails(errno.ENOENT, os.stat, b("c/docs/x.json"))
    equal(sorted(b.docs("c")), [])


def test_written_and_looked_at_through_one_descriptor(env):
    m = env.mount()
    m.make("c", docs=[{"id": "x", "n": 0}])
    for i in range(20):
        size = os.stat(m("c/docs/x.json")).st_size
        fd = os.open(m("c/docs/x.json"), os.O_RDWR)
        equal(os.fstat(fd).st_size, size)
        text = b'{"id":"x","n":"%s"}\n' % (b"z" * (50 + i))
        os.write(fd, text)
        equal(os.fstat(fd).st_size, len(text))
        os.close(fd)
        equal(os.stat(m("c/docs/x.json")).st_size, len(text))


def test_restore_by_another_process(env):
    a, b = env.mount(name="a"), env.mount(name="b")
    a.make("c", docs=[{"id": "1", "title": "the first"}])
    os.mkdir(a("c/snapshots/s"))
    for i in range(6):
        (a, b)[i % 2].load("c", [{"id": "2", "title": f"second n{i}"}, {"id": "1", "title": "changed now"}])
        settle(env)
        equal(b.ids("c", f"n{i}"), ["2"])
        size = os.stat(b("c/docs/1.json")).st_size
        if i % 2:
            env.ldbfs("restore", "c", "s")
        else:
            a.sh("mv -T c/snapshots/s c")
            os.mkdir(a("c/snapshots/s")) if not os.path.exists(a("c/snapshots/s")) else None
        equal(sorted(b.docs("c")), ["1"])
        equal(b.ids("c", "*:*"), ["1"])
        check(os.stat(b("c/docs/1.json")).st_size != size, "the document of before")
        fails(errno.ENOENT, os.stat, b("c/docs/2.json"))


def test_who_stands_inside(env):
    """Names of a collection's own directories are kept for a second; nothing else of a dropped one is there."""
    a, b = env.mount(name="a"), env.mount(name="b")
    a.make("c", docs=[{"id": "1", "title": "the first"}])
    inside = os.open(b("c"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.stat("docs", dir_fd=inside)
        os.stat("docs/1.json", dir_fd=inside)
        a.sh("rmdir c")
        fails(errno.ENOENT, os.stat, "docs/1.json", dir_fd=inside)
        fails(errno.ENOENT, os.open, "query/first", os.O_RDONLY, dir_fd=inside)

        def gone():
            try:
                os.stat("docs", dir_fd=inside)
            except FileNotFoundError:
                return True
            return False

        wait_for("the end of the names inside", gone)
    finally:
        os.close(inside)


def test_small_writers_side_by_side(env):
    """Append targets are one file for who writes little, and one each for who writes much."""
    m = env.mount()
    m.make("c")
    many = "\n".join('{"id":"h%d-%d","t":"%s"}' % (k, i, "w" * 600) for k in (0, 1) for i in range(400))
    handles = []
    for k in (0, 1):
        fd = os.open(m("c/ingest/upsert"), os.O_WRONLY | os.O_APPEND)
        lines = [line for line in many.split("\n") if line.startswith('{"id":"h%d-' % k)]
        data = ("\n".join(lines) + "\n").encode()
        while data:
            data = data[os.write(fd, data):]
        handles.append(fd)
    check(os.fstat(handles[0]).st_ino != os.fstat(handles[1]).st_ino, "each heavy writer has its own")
    small = [os.open(m("c/ingest/upsert"), os.O_WRONLY | os.O_APPEND) for _ in range(2)]
    equal(os.fstat(small[0]).st_ino, os.fstat(small[1]).st_ino)
    for i, fd in enumerate(small):
        os.write(fd, b'{"id":"s%d"}\n' % i)
    for fd in handles + small:
        os.close(fd)
    equal(len(m.docs("c")), 802)
