/* The generated files' texts: README.md, status.json, .ldbfs/stats, limits and log. */
#include "node.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#ifndef LDBFS_VERSION
#define LDBFS_VERSION "0"
#endif

enum { LOG_TAIL_BYTES = 256 * 1024, README_FIELDS_MAX = 40 };

struct info_list {
    struct collection_info *items;
    size_t n, cap;
};

static int add_info(void *ctx, const struct collection_info *info) {
    struct info_list *l = ctx;
    VEC_GROW(l->items, l->n, l->cap);
    l->items[l->n++] = *info;
    return 0;
}

static void json_member(struct buf *b, const char *name, const char *value) {
    buf_printf(b, "  \"%s\": ", name);
    buf_add_json_string(b, value, strlen(value));
    buf_adds(b, ",\n");
}

static void json_time(struct buf *b, const char *name, int64_t ms) {
    char text[TIME_TEXT_SIZE];
    time_to_iso(ms, text);
    if (ms > 0)
        json_member(b, name, text);
    else
        buf_printf(b, "  \"%s\": null,\n", name);
}

static const char *first_text_field(const struct schema *s) {
    for (uint32_t i = 0; i < s->n_fields; i++)
        if (s->fields[i].type == FIELD_TEXT) return s->fields[i].path;
    return NULL;
}

static void readme_fields(const struct schema *s, struct buf *b) {
    for (uint32_t i = 0; i < s->n_fields && i < README_FIELDS_MAX; i++)
        buf_printf(b, "- `%s`: %s%s\n", s->fields[i].path,
                   field_type_name((enum field_type)s->fields[i].type),
                   s->fields[i].inferred ? " (inferred)" : "");
    if (s->n_fields > README_FIELDS_MAX)
        buf_printf(b, "- and %u more: see schema.json\n", s->n_fields - README_FIELDS_MAX);
}

static void readme_collection(struct call *c, const struct collection_info *info, struct buf *b) {
    struct err ignore = ERR_INIT;
    struct schema *s = NULL;
    if (engine_schema(c->fs->engine, info->cid, &s, &ignore)) return;
    const char *name = info->name, *field = first_text_field(s);
    buf_printf(b, "\n## %s\n\n", name);
    readme_fields(s, b);
    buf_printf(b, "\n    cat '%s/query/*:*?size=3'\n", name);
    if (field) buf_printf(b, "    cat '%s/query/%s:WORD?size=5&fields=%s'\n", name, field, field);
    buf_printf(b,
               "    ls -f %s/docs | head\n"
               "    ls %s/snapshots/\n",
               name, name);
    schema_unref(s);
}

int text_readme(struct call *c, struct buf *out) {
    struct info_list l = {0};
    int r = engine_list(c->fs->engine, add_info, &l, &c->err);
    if (r) goto done;
    buf_adds(out,
             "# A search database, mounted as a directory\n\n"
             "    mkdir books                                        # a collection; fields are inferred\n"
             "    echo '{\"id\":\"1\",\"title\":\"Moby Dick\"}' >> books/ingest/upsert\n"
             "    cp dump.jsonl books/ingest/                        # or .json .csv .tsv, also .zst .gz\n"
             "    cat 'books/query/title:whale AND year:[1850 TO 1860]?size=20&sort=year:desc'\n"
             "    cat books/docs/1.json; rm books/docs/1.json\n"
             "    mkdir books/snapshots/before                       # a named snapshot\n"
             "    mv books/snapshots/before copy                     # a clone, without copying data\n"
             "    mv -T books/snapshots/@2h-ago books                # books as it was two hours ago\n"
             "    rmdir books; mv .ldbfs/trash/books books           # drop and bring back\n\n"
             "A command failed? `tail -1 errors.jsonl` says why. Lines that were refused: `ingest/rejects/`; "
             "what was\n"
             "accepted: `ingest/receipts/`.\n");
    for (size_t i = 0; i < l.n; i++) readme_collection(c, &l.items[i], out);
done:
    free(l.items);
    return r;
}

static void status_line(struct call *c, const struct collection_info *info, bool last, struct buf *b,
                        bool *ret_ok) {
    struct collection_status s;
    struct err err = ERR_INIT;
    buf_printf(b, "    {\"name\": \"%s\", ", info->name);
    if (engine_status_quick(c->fs->engine, info->cid, &s, &err)) {
        *ret_ok = false;
        buf_adds(b, "\"error\": ");
        buf_add_json_string(b, err.text, strlen(err.text));
    } else {
        if (s.last_error[0]) *ret_ok = false;
        buf_printf(b, "\"documents\": %llu, \"seq_written\": %llu, \"seq_committed\": %llu, \"lag_ms\": %lld",
                   (unsigned long long)s.documents, (unsigned long long)s.seq_written,
                   (unsigned long long)s.seq_committed, (long long)s.lag_ms);
    }
    buf_printf(b, "}%s\n", last ? "" : ",");
}

int text_root_status(struct call *c, struct buf *out) {
    struct info_list l = {0};
    struct buf lines = BUF_INIT;
    bool ok = true;
    int r = engine_list(c->fs->engine, add_info, &l, &c->err);
    if (r) goto done;
    for (size_t i = 0; i < l.n; i++) status_line(c, &l.items[i], i + 1 == l.n, &lines, &ok);
    pthread_mutex_lock(&c->fs->work.lock);
    uint64_t busy = c->fs->work.busy ? c->fs->work.busy - 1 : 0; /* without the request that asks */
    pthread_mutex_unlock(&c->fs->work.lock);
    buf_adds(out, "{\n");
    json_member(out, "version", LDBFS_VERSION);
    json_member(out, "source", engine_data_dir(c->fs->engine));
    json_member(out, "health", ok ? "ok" : "degraded");
    json_time(out, "mounted", c->fs->start_ms);
    buf_printf(out, "  \"queue\": %llu,\n  \"collections\": [\n%s  ]\n}\n", (unsigned long long)busy,
               buf_str(&lines));
done:
    buf_release(&lines);
    free(l.items);
    return r;
}

int text_collection_status(struct call *c, struct place *p, struct buf *b, int64_t *ret_mtime_ms) {
    struct collection_status s;
    int r = engine_status(c->fs->engine, p->cid, &s, &c->err);
    if (r) return r;
    buf_adds(b, "{\n");
    json_member(b, "name", p->name);
    json_member(b, "id", p->cid);
    buf_printf(b, "  \"documents\": %llu,\n  \"documents_seq\": %llu,\n", (unsigned long long)s.documents,
               (unsigned long long)s.documents_seq);
    buf_printf(b, "  \"bytes\": %llu,\n  \"segments\": %llu,\n  \"shards\": %u,\n  \"partitions\": %u,\n",
               (unsigned long long)s.bytes, (unsigned long long)s.segments, s.n_shards, s.n_partitions);
    buf_printf(b, "  \"seq_written\": %llu,\n  \"seq_committed\": %llu,\n  \"unbuilt_records\": %llu,\n",
               (unsigned long long)s.seq_written, (unsigned long long)s.seq_committed,
               (unsigned long long)s.unbuilt_records);
    buf_printf(b, "  \"unbuilt_bytes\": %llu,\n  \"lag_ms\": %lld,\n", (unsigned long long)s.unbuilt_bytes,
               (long long)s.lag_ms);
    json_member(b, "root_version", s.root_version);
    json_time(b, "root_time", s.root_time_ms);
    json_time(b, "data_time", s.data_time_ms);
    buf_adds(b, "  \"indexing\": [");
    for (uint32_t i = 0; i < s.n_indexing; i++) {
        buf_adds(b, i ? ",\n    {\"field\": " : "\n    {\"field\": ");
        buf_add_json_string(b, s.indexing[i].field, strlen(s.indexing[i].field));
        buf_printf(b, ", \"segments_left\": %llu, \"documents_left\": %llu}",
                   (unsigned long long)s.indexing[i].segments_left,
                   (unsigned long long)s.indexing[i].documents_left);
    }
    buf_adds(b, s.n_indexing ? "\n  ],\n" : "],\n");
    if (s.last_error[0]) json_time(b, "last_error_time", s.last_error_ms);
    buf_adds(b, "  \"last_error\": ");
    if (s.last_error[0])
        buf_add_json_string(b, s.last_error, strlen(s.last_error));
    else
        buf_adds(b, "null");
    buf_adds(b, "\n}\n");
    *ret_mtime_ms = s.data_time_ms > s.root_time_ms ? s.data_time_ms : s.root_time_ms;
    return 0;
}

int text_snapshot_status(struct call *c, struct place *p, const struct snapshot_info *s, struct buf *b) {
    struct view *v;
    int r = place_view(c, p, &v);
    if (r) return r;
    buf_adds(b, "{\n");
    json_member(b, "collection", p->name);
    json_member(b, "snapshot", s->name);
    json_member(b, "root_version", p->version);
    buf_printf(b, "  \"documents\": %llu,\n  \"seq\": %llu,\n", (unsigned long long)view_documents(v),
               (unsigned long long)view_seq(v));
    json_time(b, "commit_time", s->commit_ms);
    json_time(b, "data_time", view_time_ms(v));
    buf_printf(b, "  \"named\": %s\n}\n", s->named ? "true" : "false");
    view_unref(v);
    return 0;
}

int text_stats(struct call *c, struct buf *out) {
    struct engine_counters n;
    engine_counters(c->fs->engine, &n);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"store_puts", n.puts},
                {"store_gets", n.gets},
                {"store_heads", n.heads},
                {"store_lists", n.lists},
                {"store_deletes", n.deletes},
                {"store_maps", n.maps},
                {"store_put_bytes", n.bytes_put},
                {"store_got_bytes", n.bytes_got},
                {"queries", n.queries},
                {"records", n.records},
                {"builds", n.builds},
                {"merges", n.merges},
                {"log_syncs", n.fsyncs}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        buf_printf(out, "# TYPE ldbfs_%s_total counter\nldbfs_%s_total %llu\n", rows[i].name, rows[i].name,
                   (unsigned long long)rows[i].value);
    pthread_mutex_lock(&c->fs->inodes.lock);
    size_t inodes = c->fs->inodes.n;
    pthread_mutex_unlock(&c->fs->inodes.lock);
    buf_printf(out, "# TYPE ldbfs_inodes gauge\nldbfs_inodes %zu\n", inodes);
    return 0;
}

int text_limits(struct call *c, struct buf *out) {
    buf_printf(out,
               "document_bytes %d\nid_characters %d\nquery_size %d\nquery_clauses %d\nschema_fields %d\n"
               "vector_dimensions %d\ncollection_name_characters %d\n",
               DOC_MAX_BYTES, ID_MAX_CHARS, QUERY_MAX_SIZE, QUERY_MAX_CLAUSES, SCHEMA_MAX_FIELDS,
               SCHEMA_MAX_DIMENSIONS, NAME_MAX_CHARS);
    return 0;
}

int text_log(struct call *c, struct buf *out) {
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/mount.log", engine_data_dir(c->fs->engine));
    int fd = open(buf_str(&path), O_RDONLY | O_CLOEXEC);
    buf_release(&path);
    if (fd < 0) return 0; /* in the foreground there is none */
    off_t size = lseek(fd, 0, SEEK_END), from = size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0;
    buf_reserve(out, LOG_TAIL_BYTES);
    ssize_t n = pread(fd, out->data, (size_t)MIN(size, LOG_TAIL_BYTES), from);
    if (n > 0) out->len = (size_t)n;
    close(fd);
    return 0;
}
