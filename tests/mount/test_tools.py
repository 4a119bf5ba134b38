"""Every standard tool does its job on the mount: one table, one test a row.

A row is (name, shell line, expected): run in the mount root by bash (or the shell the name says), with $T a directory
outside and a collection c of three documents. expected: the whole stdout; or ("match", regex) ; or ("fails", regex on
stderr) for a command that must end with a non-zero status. A row may have a fourth item: tools it needs.
"""
import re

from harness import check, equal, need, write_lines

SCHEMA = {"indexConfigs": {"title": {"type": "text", "analyzers": ["english"]}, "year": {"type": "long"},
                           "tags": {"type": "keyword"}}}
DOCS = [{"id": "1", "title": "The white whale", "year": 1851, "tags": ["sea", "novel"]},
        {"id": "2", "title": "A ship at sea", "year": 1900, "tags": ["sea"]},
        {"id": "3", "title": "A garden of herbs", "year": 1955}]
MORE = [{"id": "7", "title": "Seven seas", "year": 2007}, {"id": "8", "title": "Eight days a week", "year": 2008}]

IDS = "ls c/docs"
ALL = "1.json\n2.json\n3.json\n"
WITH_MORE = "1.json\n2.json\n3.json\n7.json\n8.json\n"
SEVEN = "cat 'c/query/seven?format=ids'"

TABLE = [
    # ls
    ("ls root", "ls -d README.md errors.jsonl status.json c", "README.md\nc\nerrors.jsonl\nstatus.json\n"),
    ("ls collection", "ls -d c/schema.json c/status.json c/ingest c/docs c/query c/queries c/snapshots | wc -l", "7\n"),
    ("ls shows what is there", "for x in $(ls c c/ingest); do case $x in c:|c/ingest:) ;; *) "
     "test -e c/$x || test -e c/ingest/$x || echo missing $x;; esac; done", ""),
    ("ls docs", IDS, ALL),
    ("ls -f docs", "ls -f c/docs | grep json | sort", ALL),
    ("ls -l sizes are exact", "ls -l c/docs | awk 'NR>1{print $5}' | paste -sd+ | bc; cat c/docs/* | wc -c",
     ("match", r"^(\d+)\n\1\n$"), "bc"),
    ("ls -laR", "ls -laR . >/dev/null", ""),
    ("ls of a query", "stat -c %s 'c/query/whale'; cat 'c/query/whale' | wc -c", ("match", r"^([1-9]\d*)\n\1\n$")),
    ("ls nothing", "ls c/docs/none.json", ("fails", "No such file")),
    # cat
    ("cat document", "cat c/docs/1.json | jq -r .title", "The white whale\n"),
    ("cat query", "cat 'c/query/whale?format=ids'", "1\n"),
    ("cat query with options", "cat 'c/query/title:sea OR tags:sea?sort=year:desc&size=1&format=ids'", "2\n"),
    ("cat range", "cat 'c/query/year:[1850 TO 1900]?sort=year:asc&format=ids'", "1\n2\n"),
    ("cat several", "cat 'c/query/whale?format=ids' 'c/query/garden?format=ids'", "1\n3\n"),
    ("cat nothing found", "cat 'c/query/title:nothing'", ""),
    ("cat bad query", "cat 'c/query/title:['", ("fails", "Invalid argument")),
    ("cat bad query leaves a reason", "cat 'c/query/title:[' 2>/dev/null; tail -n1 errors.jsonl | "
     "jq -r '[.path, (.message|length > 10)] | @tsv'", ("match", r"title:.*\ttrue\n")),
    ("cat unknown option", "cat 'c/query/whale?zorp=1'", ("fails", "Invalid argument")),
    ("cat README", "grep -c 'c/query' README.md", ("match", r"^[1-9]")),
    ("cat status", "jq -r .documents c/status.json", "3\n"),
    ("cat schema", "jq -r '.indexConfigs.title.type' c/schema.json", "text\n"),
    ("cat > ingest", "cat $T/more.jsonl > c/ingest/upsert; " + IDS, WITH_MORE),
    ("cat >> ingest twice", "cat $T/more.jsonl >> c/ingest/upsert; cat $T/more.jsonl >> c/ingest/upsert; " + IDS,
     WITH_MORE),
    # echo
    ("echo upsert", "echo '{\"id\":\"9\",\"title\":\"seven nines\"}' >> c/ingest/upsert; " + SEVEN, "9\n"),
    ("echo > upsert", "echo '{\"id\":\"9\",\"title\":\"seven nines\"}' > c/ingest/upsert; " + SEVEN, "9\n"),
    ("echo update", "echo '{\"id\":\"1\",\"title\":\"seven whales\"}' >> c/ingest/update; " + SEVEN +
     "; jq .year c/docs/1.json", "1\n1851\n"),
    ("echo update of nothing", "echo '{\"id\":\"99\",\"title\":\"x\"}' >> c/ingest/update", ("fails", "echo: write error")),
    ("echo delete", "echo '{\"id\":\"1\"}' >> c/ingest/delete; echo '\"2\"' >> c/ingest/delete; " + IDS, "3.json\n"),
    ("echo bad json", "echo '{bad' >> c/ingest/upsert", ("fails", "echo: write error: Bad message")),
    ("echo bad value", "echo '{\"id\":\"5\",\"year\":\"soon\"}' >> c/ingest/upsert", ("fails", "write error")),
    ("printf unterminated", "printf '{\"id\":\"9\",\"title\":\"seven\"}' > c/ingest/upsert; " + SEVEN, "9\n"),
    ("echo into query", "echo x > c/query/new", ("fails", "not permitted")),
    ("echo into the root", "echo x > file", ("fails", "not permitted|Permission denied")),
    # tee
    ("tee", "tee c/ingest/upsert < $T/more.jsonl > /dev/null; " + IDS, WITH_MORE),
    ("tee -a", "tee -a c/ingest/upsert < $T/more.jsonl | wc -l; " + SEVEN, "2\n7\n"),
    ("tee drop", "tee c/ingest/m.jsonl < $T/more.jsonl > /dev/null; " + SEVEN, "7\n"),
    # cp
    ("cp in", "cp $T/more.jsonl c/ingest/; " + IDS, WITH_MORE),
    ("cp in twice", "cp $T/more.jsonl c/ingest/ && cp $T/more.jsonl c/ingest/; " + IDS, WITH_MORE),
    ("cp onto upsert", "cp $T/more.jsonl c/ingest/upsert; " + SEVEN, "7\n"),
    ("cp -p in", "cp -p $T/more.jsonl c/ingest/; " + SEVEN, "7\n"),
    ("cp several", "cp $T/more.jsonl $T/x.csv c/ingest/; " + IDS,
     "1.json\n2.json\n3.json\n7.json\n8.json\na.json\nb.json\n"),
    ("cp bad file", "cp $T/bad.jsonl c/ingest/", ("fails", "Bad message")),
    ("cp bad file stores the good", "cp $T/bad.jsonl c/ingest/ 2>/dev/null; ls c/docs | grep good", "good.json\n"),
    ("cp out", "cp c/docs/1.json $T/one && cmp c/docs/1.json $T/one && jq .year $T/one", "1851\n"),
    ("cp -r out", "cp -r c/docs $T/out && diff -r c/docs $T/out && ls $T/out", ALL),
    ("cp -a out", "cp -a c/docs $T/out && diff -r c/docs $T/out && ls $T/out", ALL),
    ("cp a query", "cp 'c/query/whale' $T/q && jq -r .doc.id $T/q", "1\n"),
    ("cp document", "cp $T/doc.json c/docs/10.json; jq -r .id c/docs/10.json; cat 'c/query/tenth?format=ids'",
     "10\n10\n"),
    ("cp document with another id", "cp c/docs/1.json c/docs/10.json", ("fails", "Invalid argument")),
    ("cp -r by value", "mkdir d && cp -r c/docs d/ && ls d/docs", ALL),
    ("cp -r whole snapshot", "mkdir c/snapshots/s d && cp -r c/snapshots/s/. d/ && ls d/docs && "
     "jq -r .indexConfigs.year.type d/schema.json",
     ALL + "long\n"),
    ("cp from snapshot", "mkdir c/snapshots/s && rm c/docs/2.json && cp c/snapshots/s/docs/2.json c/docs/ && " + IDS, ALL),
    # mv
    ("mv in", "cp $T/more.jsonl $T/gone.jsonl; mv $T/gone.jsonl c/ingest/; ls $T/gone.jsonl 2>&1 | wc -l; " + SEVEN,
     "1\n7\n"),
    ("mv rename", "mv c d; test ! -e c && cat 'd/query/whale?format=ids'", "1\n"),
    ("mv onto existing", "mkdir d && mv -T c d", ("fails", "not empty|exists|not permitted")),
    ("mv document", "mv c/docs/1.json c/docs/5.json", ("fails", "not permitted")),
    ("mv document leaves it", "mv c/docs/1.json c/docs/5.json 2>/dev/null; " + IDS, ALL),
    ("mv document out", "mv c/docs/1.json $T/ && jq .year $T/1.json && " + IDS, "1851\n2.json\n3.json\n"),
    ("mv scratch to final", "cp $T/more.jsonl c/ingest/.scratch.tmp && ls c/docs | wc -l && "
     "mv c/ingest/.scratch.tmp c/ingest/m.jsonl && " + IDS, "3\n" + WITH_MORE),
    # rm, rmdir, mkdir
    ("rm document", "rm c/docs/1.json && " + IDS, "2.json\n3.json\n"),
    ("rm nothing", "rm c/docs/none.json", ("fails", "No such file")),
    ("rm several", "rm c/docs/*.json; ls c/docs; jq .documents c/status.json", "0\n"),
    ("rm -r collection", "rm -r c; ls -d c", ("fails", "No such file")),
    ("rm -rf collection is in the trash", "rm -rf c && ls .ldbfs/trash | wc -l", ("match", r"^[1-9]")),
    ("rmdir", "rmdir c && ls -d c 2>/dev/null; ls .ldbfs/trash | wc -l", "1\n"),
    ("rmdir nothing", "rmdir none", ("fails", "No such file")),
    ("mkdir", "mkdir n && jq .documents n/status.json", "0\n"),
    ("mkdir -p", "mkdir -p n && mkdir -p n && ls -d n", "n\n"),
    ("mkdir existing", "mkdir c", ("fails", "exists")),
    ("mkdir bad name", "mkdir 'a b'", ("fails", "Invalid argument")),
    ("mkdir reserved", "mkdir status.json", ("fails", "exists|Invalid")),
    ("mkdir inside", "mkdir c/sub", ("fails", "not permitted")),
    ("mkdir infers", "mkdir n && echo '{\"id\":\"a\",\"n\":1.5,\"ok\":true,\"d\":\"2024-01-02T03:04:05Z\","
     "\"t\":\"some longer text of words\"}' > n/ingest/upsert && "
     "jq -r '.indexConfigs|[.n.type,.ok.type,.d.type,.t.type]|join(\" \")' n/schema.json",
     "double boolean datetime text\n"),
    # find and grep
    ("find documents", "find c -path '*/docs/*.json' | sort", "c/docs/1.json\nc/docs/2.json\nc/docs/3.json\n"),
    ("find -size", "find c/docs -type f -size +0 | wc -l", "3\n"),
    ("find -exec", "find c/docs -name '1.json' -exec jq .year {} \\;", "1851\n"),
    ("find whole", "find . > /dev/null", ""),
    ("find -newer", "find c/docs -newermt 2000-01-01 | wc -l", "4\n"),
    ("find -delete", "find c/docs -name '[12].json' -delete && " + IDS, "3.json\n"),
    ("grep", "grep -l whale c/docs/*.json", "c/docs/1.json\n"),
    ("grep -r", "grep -rl 'white whale' c/docs", "c/docs/1.json\n"),
    ("grep -r collection sees live data once", "mkdir c/snapshots/s; grep -rl 'white whale' c", "c/docs/1.json\n"),
    ("grep query", "grep -c whale 'c/query/whale'", "1\n"),
    # head tail wc diff sort xargs
    ("head", "head -n 1 'c/query/*:*?format=ids'", "1\n"),
    ("head -c", "head -c 1 c/docs/1.json", "{"),
    ("tail", "tail -n 1 'c/query/*:*?format=ids'", "3\n"),
    ("tail -c", "tail -c 4 c/docs/1.json | wc -c", "4\n"),
    ("wc -l", "wc -l < 'c/query/*:*'", "3\n"),
    ("wc -c", "test $(wc -c < 'c/query/*:*') = $(cat 'c/query/*:*' | wc -c) && echo same", "same\n"),
    ("diff same", "diff -r c/docs c/docs", ""),
    ("diff snapshot", "mkdir c/snapshots/s && echo '{\"id\":\"2\",\"title\":\"changed\"}' > c/ingest/upsert && "
     "diff -rq c/snapshots/s/docs c/docs | sed 's/ differ//;s/.* //'", "c/docs/2.json\n"),
    ("sort", "sort -r 'c/query/*:*?format=ids'", "3\n2\n1\n"),
    ("xargs", "cat 'c/query/*:*?format=ids' | xargs -I{} jq -r .year c/docs/{}.json", "1851\n1900\n1955\n"),
    # rsync and tar
    ("rsync in", "mkdir $T/in && cp $T/more.jsonl $T/in && rsync -a $T/in/ c/ingest/; " + IDS, WITH_MORE, "rsync"),
    ("rsync --inplace in", "rsync --inplace $T/more.jsonl c/ingest/; " + SEVEN, "7\n", "rsync"),
    ("rsync out", "rsync -a c/docs/ $T/out/ && diff -r c/docs $T/out && ls $T/out", ALL, "rsync"),
    ("rsync out again sends nothing", "rsync -a c/docs/ $T/out/ && rsync -ai c/docs/ $T/out/", "", "rsync"),
    ("rsync into docs", "rsync -a c/docs/ $T/out/ && rm c/docs/2.json && rsync -a $T/out/ c/docs/ && " + IDS, ALL, "rsync"),
    ("rsync a query", "rsync 'c/query/whale' $T/q && cmp 'c/query/whale' $T/q && wc -l < $T/q", "1\n", "rsync"),
    ("tar out", "tar -C c -cf $T/x.tar docs && mkdir $T/out && tar -C $T/out -xf $T/x.tar && diff -r c/docs $T/out/docs "
     "&& ls $T/out/docs", ALL),
    ("tar in", "tar -C $T -cf $T/x.tar more.jsonl && tar -C c/ingest -xf $T/x.tar; " + IDS, WITH_MORE),
    ("tar whole collection", "tar -cf $T/x.tar c && tar -tf $T/x.tar | grep -c docs/.", "3\n"),
    ("tar into docs", "tar -C c -cf $T/x.tar docs && rm c/docs/1.json && tar -C c -xf $T/x.tar; " + IDS, ALL),
    # jq
    ("jq hits", "jq -r '[.collection, .doc.id] | join(\" \")' 'c/query/whale'", "c 1\n"),
    ("jq -s", "jq -s length 'c/query/*:*'", "3\n"),
    ("jq whole answer", "jq -r '[.total, .docs[0].doc.year] | @tsv' 'c/query/whale?format=json'", "1\t1851\n"),
    ("jq to ingest", "jq -c '.doc | .year += 1' 'c/query/*:*' > c/ingest/upsert; jq .year c/docs/1.json", "1852\n"),
    # editors
    ("sed -i document", "sed -i 's/white/seven/' c/docs/1.json && " + SEVEN + " && " + IDS, "1\n" + ALL),
    ("sed -i query file", "echo '{\"query\":\"whale\"}' > c/queries/q.json && sed -i 's/whale/garden/' c/queries/q.json "
     "&& jq -r .doc.id 'c/query/@q'", "3\n"),
    ("sed -n", "sed -n 1p 'c/query/whale?format=ids'", "1\n"),
    ("vim document", "vim -u NONE -es -c '%s/white/seven/' -c wq c/docs/1.json < /dev/null; " + SEVEN + "; " + IDS,
     "1\n" + ALL, "vim"),
    ("vim with backups", "vim -u NONE -es -c 'set backup writebackup backupcopy=no' -c '%s/white/seven/' -c wq "
     "c/docs/1.json < /dev/null; " + SEVEN + "; " + IDS, "1\n" + ALL, "vim"),
    ("vim -n new document", "vim -u NONE -n -es -c 'normal i{\"title\":\"seven\"}' -c wq c/docs/20.json < /dev/null; "
     + SEVEN, "20\n", "vim"),
    ("vim schema", "vim -u NONE -es -c '%s/\"tags\"/\"tags\"/' -c wq c/schema.json < /dev/null; "
     "jq -r .indexConfigs.tags.type c/schema.json", "keyword\n", "vim"),
    ("install", "install -m 644 $T/more.jsonl c/ingest/more.jsonl; " + IDS, WITH_MORE),
    ("touch document", "touch c/docs/1.json && jq .year c/docs/1.json", "1851\n"),
    ("touch drop", "touch c/ingest/empty.jsonl && " + IDS, ALL),
    ("touch upsert", "touch c/ingest/upsert && " + IDS, ALL),
    # python
    ("python open", "python3 -c \"import json; print(json.load(open('c/docs/1.json'))['year'])\"", "1851\n"),
    ("python write", "python3 -c \"with open('c/ingest/upsert','a') as f: f.write(open('$T/more.jsonl').read())\"; "
     + SEVEN, "7\n"),
    ("python bad write", "python3 -c \"with open('c/ingest/upsert','w') as f: f.write('{bad\\n')\" 2>&1 | "
     "tail -n1 | grep -c 'Bad message'", "1\n"),
    ("python shutil.copy in", "python3 -c \"import shutil; shutil.copy('$T/more.jsonl','c/ingest/')\"; " + SEVEN, "7\n"),
    ("python shutil.copytree", "python3 -c \"import shutil; shutil.copytree('c/docs','$T/out')\"; ls $T/out", ALL),
    ("python shutil.copyfile query", "python3 -c \"import shutil; shutil.copyfile('c/query/whale','$T/q')\"; "
     "jq -r .doc.id $T/q", "1\n"),
    ("python mmap", "python3 -c \"import mmap; f=open('c/query/whale','rb'); "
     "print(mmap.mmap(f.fileno(),0,access=mmap.ACCESS_READ).find(b'white whale') > 0)\"", "True\n"),
    ("python mmap document", "python3 -c \"import mmap; f=open('c/docs/1.json','rb'); "
     "print(len(mmap.mmap(f.fileno(),0,access=mmap.ACCESS_READ)) == len(f.read()) > 0)\"", "True\n"),
    ("python sendfile", "python3 -c \"import os; i=open('c/query/whale','rb'); o=open('$T/q','wb'); "
     "print(os.sendfile(o.fileno(), i.fileno(), 0, 1<<20) == os.fstat(i.fileno()).st_size)\"", "True\n"),
    ("python listdir", "python3 -c \"import os; print(sorted(os.listdir('c/docs')))\"",
     "['1.json', '2.json', '3.json']\n"),
    ("python tempfile and rename", "python3 -c \"import os,tempfile; f=tempfile.NamedTemporaryFile('w',dir='c/ingest',"
     "delete=False); f.write(open('$T/more.jsonl').read()); f.close(); os.rename(f.name,'c/ingest/m.jsonl')\"; " + SEVEN,
     "7\n"),
    # shells
    ("bash while read", "while read -r id; do echo \"<$id>\"; done < 'c/query/*:*?format=ids'", "<1>\n<2>\n<3>\n"),
    ("bash glob", "echo c/docs/*.json", "c/docs/1.json c/docs/2.json c/docs/3.json\n"),
    ("bash tests", "[[ -d c && -f c/docs/1.json && -s c/docs/1.json && ! -e c/docs/9.json ]] && echo yes", "yes\n"),
    ("bash noclobber", "set -C; echo '{\"title\":\"seven\"}' > c/docs/30.json; " + SEVEN, "30\n"),
    ("bash here-document", "cat > c/ingest/upsert <<X\n{\"id\":\"9\",\"title\":\"seven\"}\nX\n" + SEVEN, "9\n"),
    ("bash cd", "cd c/docs && cat 1.json | jq .year && cd ../query && cat whale | jq -r .doc.id", "1851\n1\n"),
    ("bash group appends", "{ echo '{\"id\":\"a\"}'; sleep 0; echo '{\"id\":\"b\"}'; } >> c/ingest/upsert; ls c/docs | wc -l",
     "5\n"),
    ("busybox sh", "echo '{\"id\":\"9\",\"title\":\"seven\"}' >> c/ingest/upsert; for f in c/docs/*; do echo $f; done; "
     "cat 'c/query/seven?format=ids'", "c/docs/1.json\nc/docs/2.json\nc/docs/3.json\nc/docs/9.json\n9\n", "busybox"),
    ("busybox cp -p", "busybox cp -p $T/more.jsonl c/ingest/; " + SEVEN, "7\n", "busybox"),
    ("busybox tools", "busybox ls c/docs; busybox cat c/docs/1.json | busybox wc -l; busybox grep -l whale c/docs/*; "
     "busybox find c/docs -type f | busybox wc -l", ("match", r"^1.json\n2.json\n3.json\n\d\nc/docs/1.json\n3\n$"), "busybox"),
    ("busybox sed -i", "busybox sed -i 's/white/seven/' c/docs/1.json; " + SEVEN + "; " + IDS, "1\n" + ALL, "busybox"),
    ("busybox tar", "busybox tar -cf $T/x.tar c/docs && busybox tar -tf $T/x.tar | grep -c json", "3\n", "busybox"),
    # others that people use
    ("dd in", "dd if=$T/more.jsonl of=c/ingest/upsert bs=7 2>/dev/null; " + SEVEN, "7\n"),
    ("dd out", "dd if=c/docs/1.json bs=5 2>/dev/null | jq .year", "1851\n"),
    ("split", "split -l 1 --filter='cat > c/ingest/$FILE.jsonl' $T/more.jsonl; " + IDS, WITH_MORE),
    ("zstd in", "zstd -q $T/more.jsonl -o $T/more.jsonl.zst && cp $T/more.jsonl.zst c/ingest/; " + SEVEN, "7\n", "zstd"),
    ("gzip in", "gzip -k $T/more.jsonl && cp $T/more.jsonl.gz c/ingest/; " + SEVEN, "7\n"),
    ("zstdcat", "zstd -q $T/more.jsonl -o $T/more.jsonl.zst && zstdcat $T/more.jsonl.zst > c/ingest/upsert; " + SEVEN,
     "7\n", "zstd"),
    ("csv in", "cp $T/x.csv c/ingest/; jq -c '[.title,.year]' c/docs/a.json", "[\"Comma, \\\"quoted\\\"\",1999]\n"),
    ("df and du", "df . > /dev/null && du -s c/docs > /dev/null; df --output=size . | tail -n1",
     ("match", r"^\s*[1-9]\d*\n$")),
    ("stat -f", "stat -f -c %l .", ("match", r"^\d{3,}\n$")),
    ("realpath and symlink", "readlink c/snapshots | grep -c snapshots/c", "1\n"),
    ("ln -s alias", "ln -s c current && cat 'current/query/whale?format=ids'", "1\n"),
    ("getfattr is quick", "timeout 5 getfattr -d -m- c/docs/1.json > /dev/null 2>&1; echo $?", ("match", r"^[01]\n$"),
     "getfattr"),
    ("chmod is harmless", "chmod 644 c/docs/1.json; jq .year c/docs/1.json", "1851\n"),
    ("query with a slash", "cat 'c/query/tags:%22sea%22?format=ids&sort=year:asc'", "1\n2\n"),
    ("receipt", "cp $T/more.jsonl c/ingest/ && ls c/ingest/more.jsonl && test $(ls c/ingest/receipts | wc -l) -gt 0 && "
     "echo yes", "c/ingest/more.jsonl\nyes\n"),
    ("rejects", "cp $T/bad.jsonl c/ingest/ 2>/dev/null; cat c/ingest/rejects/*bad* | grep -c '{bad'", ("match", "^[1-9]")),
    ("saved query", "echo 'title:whale' > c/queries/w.json; cat 'c/query/@w' | jq -r .doc.id; ls c/query", "1\n@w\n"),
    (".run", "exec 3<>c/query/.run; echo '{\"query\":{\"queryString\":{\"query\":\"whale\"}}}' >&3; "
     "cat <&3 | jq -r .doc.id", "1\n"),
    (".run with options", "exec 3<>c/query/.run; echo 'title:*?size=1&format=ids&sort=year:asc' >&3; cat <&3 | wc -l", "1\n"),
]


def run_row(env, row):
    name, command, expected = row[:3]
    for tool in row[3:]:
        need(tool)
    write_lines(env.path("more.jsonl"), MORE)
    write_lines(env.path("bad.jsonl"), [{"id": "good", "title": "good"}, '{bad', ])
    write_lines(env.path("x.csv"), ["id,title,year", 'a,"Comma, ""quoted""",1999', "b,Plain,2001"])
    write_lines(env.path("doc.json"), [{"title": "the tenth"}])
    m = env.mount()
    m.make("c", SCHEMA, DOCS)
    shell = ("busybox", "sh", "-c") if name == "busybox sh" else ("bash", "-c")
    got = m.sh(command, status=None, shell=shell)
    if isinstance(expected, tuple) and expected[0] == "fails":
        check(got.returncode != 0, f"{command!r} should fail; it wrote {got.stdout!r}")
        check(re.search(expected[1], got.stderr), f"stderr {got.stderr!r} does not match {expected[1]!r}")
        return
    what = f"{command!r} (status {got.returncode}, stderr {got.stderr!r})"
    if isinstance(expected, tuple):
        check(re.search(expected[1], got.stdout), f"{what}: {got.stdout!r} does not match {expected[1]!r}")
    else:
        equal(got.stdout, expected, what)


TESTS = [(row[0].replace(" ", "-"), lambda env, row=row: run_row(env, row)) for row in TABLE]
