"""scripts/quickstart does what it promises, twice in a row. (The release binary: it builds what it needs.)"""
import json
import os
import subprocess

from harness import BIN, ROOT, Skip, check, equal, need


def test_quickstart(env):
    need("apt-cache")
    if os.path.realpath(BIN) != os.path.realpath(os.path.join(ROOT, "build/release/ldbfs")):
        raise Skip("only with the release binary")
    if subprocess.run(["apt-cache", "show", "0ad"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                      check=False).returncode:
        raise Skip("no package lists here (apt-get update)")
    mnt = env.path("mnt")
    try:
        for run in (1, 2):
            out = env.sh(f"{ROOT}/scripts/quickstart {mnt}", timeout=250)
            commands = [line for line in out.splitlines() if line.startswith("$ ")]
            equal(len(commands), 5, "showcase commands in run", run)
            check("mv -T packages/snapshots" in commands[-1] and "unmount" in out.splitlines()[-1], out[-800:])
            shown = out.split("\n$ ")
            before, after = (int(part.splitlines()[1]) for part in shown[-2:])
            check(0 < before < after, "the restore brought nothing back", before, after)
            check(os.path.ismount(mnt), "it should stay mounted")
        equal(json.loads(env.sh(f"cat {mnt}/packages/status.json"))["documents"], after)
        equal(env.sh(f"jq -r .Package {mnt}/packages/docs/bash.json"), "bash\n")
        equal(env.sh(f"cat '{mnt}/packages/query/Package:coreutils?format=ids'"), "coreutils\n")
    finally:
        if os.path.ismount(mnt):
            env.ldbfs("unmount", mnt)


test_quickstart.timeout = 600
test_quickstart.alone = True
