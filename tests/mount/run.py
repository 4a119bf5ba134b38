#!/usr/bin/env python3
"""Runs the mount tests: every test_* function of every test_*.py here, each in a process of its own.

  run.py [--quick|--long] [--jobs N] [--list] [--binary FILE] [FILTER]...      FILTER: part of file::name
The last line is "N passed, N failed, N skipped".
"""
import argparse
import concurrent.futures
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT_TIMEOUT = 120
EXIT_SKIP = 77


def functions(module):
    found = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    return found + list(getattr(module, "TESTS", []))


def collect(filters):
    tests = []
    for entry in sorted(os.listdir(HERE)):
        if not entry.startswith("test_") or not entry.endswith(".py"):
            continue
        module = importlib.import_module(entry[:-3])
        for name, function in functions(module):
            full = f"{entry[:-3]}::{name}"
            if not filters or any(f in full for f in filters):
                tests.append((full, getattr(function, "timeout", DEFAULT_TIMEOUT),
                              getattr(function, "alone", False)))
    return tests


def run_here(full):
    """The child process: one test."""
    import harness
    file, name = full.split("::", 1)
    function = dict(functions(importlib.import_module(file)))[name]
    env = harness.Env(full)
    failed, status = True, 1
    try:
        function(env)
        failed, status = False, 0
    except harness.Skip as e:
        print(e)
        failed, status = False, EXIT_SKIP
    except harness.Failure as e:
        place = traceback.extract_tb(e.__traceback__)
        mine = [f for f in place if not f.filename.endswith(("harness.py", "run.py"))]
        print(f"{os.path.basename(mine[-1].filename)}:{mine[-1].lineno}: {e}" if mine else e)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    if failed:
        print(f"seed {env.seed} (LDBFS_SEED={env.seed} repeats it)")
        for m in env.mounts:
            if m.output():
                print(f"daemon said: {m.output()[-3000:]}")
    try:
        env.close(failed)
    except harness.Failure as e:
        print(e)
        status = 1
    sys.exit(status)


def run_child(test, environ):
    full, timeout, _ = test
    limit = timeout * (4 if environ.get("LDBFS_SLOW") else 1)
    start = time.monotonic()
    p = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--one", full], env=environ,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                         start_new_session=True)
    try:
        out, _ = p.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGTERM)
        try:
            out, _ = p.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, _ = p.communicate()
        out += f"\ntimed out after {limit} s"
        p.returncode = 1
    return full, p.returncode, out.strip(), time.monotonic() - start


def report(result, counts, lock):
    full, status, out, seconds = result
    word = "passed" if status == 0 else "skipped" if status == EXIT_SKIP else "failed"
    with lock:
        counts[word] += 1
        if word == "passed":
            print(f"ok      {full}  {seconds:.1f} s" + (f"  {out.splitlines()[-1]}" if out else ""), flush=True)
        elif word == "skipped":
            print(f"SKIPPED {full}: {out}", flush=True)
        else:
            print(f"FAILED  {full}  {seconds:.1f} s", flush=True)
            print("\n".join("        " + line for line in out.splitlines()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--binary")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("filters", nargs="*")
    args = parser.parse_args()
    sys.path.insert(0, HERE)
    # What is started in the background ignores Ctrl-C, and so would the programs that tests send it to.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if args.one:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        run_here(args.one)
    environ = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    if args.binary:
        environ["LDBFS_BIN"] = os.path.abspath(args.binary)
        os.environ["LDBFS_BIN"] = environ["LDBFS_BIN"]
    if args.quick or args.long:
        environ["LDBFS_MODE"] = os.environ["LDBFS_MODE"] = "quick" if args.quick else "long"
    tests = collect(args.filters)
    if args.list:
        print("\n".join(t[0] for t in tests))
        return 0
    counts, lock = {"passed": 0, "failed": 0, "skipped": 0}, threading.Lock()
    together = [t for t in tests if not t[2]]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run_child, t, environ) for t in together]):
            report(future.result(), counts, lock)
    for test in tests:
        if test[2]:  # measures memory or time: nothing beside it
            report(run_child(test, environ), counts, lock)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not any(counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
