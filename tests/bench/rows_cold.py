"""Rows of cold queries: nothing cached, every GET of the object store takes its latency."""
from common import Row, megabytes, microseconds, number
import data
import rows_text
import rows_vector

GET_MS, MB_S = 60, 1000  # some 100 MB/s a connection, ten at a time


def cold(bench):
    n, rows = 10 if bench.quick else 40, []
    source, _ = data.texts(bench.cache, bench.documents)
    with rows_text.engine(bench, rows_text.ours(bench, source)) as e:
        for kind in data.KINDS:
            e("specs", kind, f"{source}/{kind}.txt")
            rows.append(row(f"text, {rows_text.NAMES[kind]}", e("cold", kind, GET_MS, MB_S, n), 300000))
    for v in [rows_vector.fashion_set(bench)] + ([] if bench.quick else [rows_vector.million(bench)]):
        with rows_vector.engine(bench, v) as e:
            mine = rows_vector.Ldbfs(bench, "ldbfs", v, e, 1000)
            setting = 0.965 if mine.can_approximate() else None
            mine.choose(setting)
            rows.append(row(f"kNN, {rows_vector.title(v)}, recall {setting or 1}", e("cold", "v", GET_MS, MB_S, n), 400000))
    return rows, [f"cold: {GET_MS} ms a GET, {MB_S} MB/s for all together; every query in an engine of its own"]


def row(what, got, limit):
    return Row(f"cold query, {what}", f"4 waves, p50 {limit // 1000} ms", "",
               f"p50 {microseconds(got['p50_us'])}, at most {microseconds(got['max_us'])}",
               f"{got['waves']} waves, {number(got['gets'])} requests, {megabytes(got['bytes'])}",
               got["waves"] <= 4 and got["p50_us"] < limit)
