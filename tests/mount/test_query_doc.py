"""docs/QUERY.md tells the truth: its examples are run on tests/golden/packages.jsonl and their output is compared.

An example is an indented line that begins with "$ ", its further lines with "> ", and what it prints up to the next example
or blank line. LDBFS_UPDATE_DOCS=1 writes what is printed into the page instead.
"""
import os
import re

from harness import ROOT, check, equal, need

PAGE = os.path.join(ROOT, "docs/QUERY.md")
INDENT = "    "


def is_block(line):
    return line.startswith(INDENT) and line.strip()


def examples(lines):
    """(line number of the output, command, number of output lines) of each example."""
    found, i = [], 0
    while i < len(lines):
        if not lines[i].startswith(INDENT + "$ "):
            i += 1
            continue
        command = lines[i][len(INDENT) + 2:]
        i += 1
        while i < len(lines) and lines[i].startswith(INDENT + "> "):
            command += "\n" + lines[i][len(INDENT) + 2:]
            i += 1
        start = i
        while i < len(lines) and is_block(lines[i]) and not lines[i].startswith(INDENT + "$ "):
            i += 1
        found.append((start, command, i - start))
    return found


def shown(text):
    """What a run prints, without what differs from run to run."""
    return re.sub(r'"took":\d+', '"took":1', text).rstrip("\n").splitlines()


def test_query_doc(env):
    need("jq")
    with open(PAGE, encoding="utf-8") as f:
        lines = f.read().split("\n")
    m = env.mount("--build-age=-1")
    out, at, count = [], 0, 0
    for start, command, length in examples(lines):
        p = m.sh(command.replace("tests/golden", os.path.join(ROOT, "tests/golden")), status=None)
        got = shown(p.stdout + p.stderr)
        count += 1
        if not os.environ.get("LDBFS_UPDATE_DOCS"):
            equal(got, [line[len(INDENT):] for line in lines[start:start + length]], f"{PAGE}:{start}: {command}")
        out += lines[at:start] + [INDENT + line for line in got]
        at = start + length
    check(count >= 30, "only", count, "examples")
    if os.environ.get("LDBFS_UPDATE_DOCS"):
        with open(PAGE, "w", encoding="utf-8") as f:
            f.write("\n".join(out + lines[at:]))
