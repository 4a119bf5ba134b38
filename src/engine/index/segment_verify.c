/* Checking a whole segment: every page, then every structure against the directory's numbers. */
#include "index/segment_internal.h"

static int verify_documents(struct segment *s, struct err *err) {
    const struct segment_summary *m = &s->summary;
    struct segment_summary seen = {.seq_min = UINT64_MAX, .time_min = INT64_MAX, .time_max = INT64_MIN};
    struct ids_iter it;
    char last[ID_MAX_BYTES];
    uint32_t last_len = 0;
    int r;
    ids_iter_init(&it, &s->ids);
    while ((r = ids_iter_next(&it, err)) == 1) {
        uint64_t seq;
        int64_t time_ms;
        if (seen.n_docs && id_compare(last, last_len, it.id, it.len) >= 0)
            return segment_corrupt(s, err, "ids are not in order");
        memcpy(last, it.id, last_len = it.len);
        if (!seen.n_docs && id_compare(it.id, it.len, m->id_min, m->id_min_len))
            return segment_corrupt(s, err, "the first id is not the directory's");
        if ((r = segment_seq(s, seen.n_docs++, &seq, &time_ms, err))) return r;
        seen.checksum_sum += segment_doc_hash(it.id, it.len, seq);
        seen.seq_min = MIN(seen.seq_min, seq);
        seen.seq_max = MAX(seen.seq_max, seq);
        seen.time_min = MIN(seen.time_min, time_ms);
        seen.time_max = MAX(seen.time_max, time_ms);
    }
    if (r) return r;
    if (seen.n_docs != m->n_docs || seen.checksum_sum != m->checksum_sum)
        return segment_corrupt(s, err, "the documents are not those of the directory");
    if (!m->n_docs) return 0;
    if (id_compare(last, last_len, m->id_max, m->id_max_len))
        return segment_corrupt(s, err, "the last id is not the directory's");
    if (seen.seq_min != m->seq_min || seen.seq_max != m->seq_max || seen.time_min != m->time_min ||
        seen.time_max != m->time_max)
        return segment_corrupt(s, err, "sequence numbers or times are outside the directory's range");
    return 0;
}

static int verify_exists(const struct segment_field *f, struct err *err) {
    const uint64_t *exists;
    uint32_t n = segment_n_docs(f->segment);
    int r = segment_field_exists(f, &exists, err);
    if (r || !exists) return r;
    bool beyond = n % 64 && exists[n / 64] >> (n % 64);
    return beyond || bitmap_count(exists, n) != f->stats.n_docs
               ? segment_field_corrupt(f, err, "existence bitmap")
               : 0;
}

int segment_verify(struct segment *s, struct err *err) {
    uint64_t raw_bytes;
    int r = blob_verify_all(s->blob, err);
    if (!r) r = verify_documents(s, err);
    if (!r) r = docstore_verify(&s->docs, &raw_bytes, err);
    if (!r && raw_bytes != s->summary.raw_bytes)
        r = segment_corrupt(s, err, "the documents have another size than the directory says");
    for (uint32_t i = 0; !r && i < s->n_fields; i++) {
        const struct segment_field *f = &s->fields[i];
        if (!f->ops) continue;
        r = verify_exists(f, err);
        if (!r) r = f->ops->verify(f, err);
    }
    return r;
}
