/* Shared by log.c (appending, durability) and log_read.c (reading, trimming). */
#pragma once
#include "index/log.h"
#include "util/codec.h"
#include <pthread.h>

struct log {
    struct log_store *store;
    struct clock *clock;
    char cid[64];
    pthread_mutex_t lock;     /* guards everything below */
    pthread_cond_t synced[2]; /* by the parity of the round that makes it durable what is waited for */
    uint64_t round, target;   /* of the newest sync: its number, and up to where it reaches */
    struct log_file *head;    /* newest segment, open for writing; NULL = none, or not opened yet */
    struct log_segment_name head_name;
    struct log_stamp listed; /* of a list that ended with the head and had no void segment */
    uint64_t head_end;       /* offset behind the last whole batch known */
    uint64_t head_size;      /* of the file: zeros are reserved behind head_end; 0 = not known */
    uint64_t last_seq;       /* of that batch (or first_seq - 1) */
    uint32_t last_crc;       /* of that batch (or the header's prev_crc) */
    int64_t last_time_ms;
    uint64_t synced_seq;   /* this process knows everything up to here to be durable; a batch boundary */
    uint64_t appended_seq; /* highest number this process appended */
    uint32_t appended_crc; /* crc of that batch, to recognise it in a rewritten segment */
    bool begun;            /* a segment was seen; atomic, only ever set */
    bool syncing;
    bool unhealthy; /* a sync failed: nothing is appended or acknowledged before recover() succeeded */
    uint32_t failed_ordinal;   /* of the segment whose sync failed */
    struct log_file **retired; /* former heads that a running sync may still use */
    size_t n_retired, cap_retired;
    uint64_t fsyncs;
};

struct log_batch {
    const uint8_t *raw; /* the whole encoded batch */
    size_t size;
    uint64_t off, first_seq, durable_through;
    int64_t time_ms;
    uint32_t crc, prev_crc, count, schema_version;
};
/* Visits the whole batches of a segment from off on. Stops at the first that is not whole, does not continue
 * the numbering (expect_seq) or the chain (prev_crc, 0 = any). A non-zero result of visit stops (negative:
 * error). *ret_end is the offset behind the last batch visited with 0; damage (see log.h) is ERR_CORRUPT;
 * *ret_broken: the chain broke. */
typedef int log_batch_fn(void *ctx, const struct log_batch *, struct err *);
struct log_scan {
    uint64_t off, expect_seq;
    uint32_t prev_crc;
    const char *name; /* of the segment, for messages */
    bool broken;      /* result: chain or numbering does not fit a whole batch */
};
int log_scan_segment(struct log_file *file, struct log_scan *scan, log_batch_fn *visit, void *ctx,
                     struct err *err);
/* Checks the header; *ret_empty: it was never written (short or all zero: the creator died), which is no
 * error. */
int log_check_header(struct log_file *file, const struct log_segment_name *name, bool *ret_empty,
                     uint32_t *ret_prev_crc, struct err *err);
/* Lists the segments that count: void ones at the end are left out (*ret_void of them, they follow in the
 * array). */
int log_list(struct log *log, struct log_segment_name **ret, size_t *ret_n, size_t *ret_void,
             struct err *err);
/* Finds the newest segment and the end of its whole batches; *ret_torn (may be NULL) when something else than
 * zeros follows. Caller holds log->lock. */
int log_refresh_head(struct log *log, bool *ret_torn, struct err *err);
bool log_all_zero(const uint8_t *p, size_t n);
