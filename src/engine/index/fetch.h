/* Reading ahead: ranges of remote objects that are wanted, fetched as one wave of requests. docs/COLD.md. One
 * thread uses a struct fetch. */
#pragma once
#include "index/blob.h"

struct fetch {
    struct fetch_run {
        struct blob *blob;
        uint64_t first, last; /* pages */
    } * runs;
    size_t n, cap;
};
#define FETCH_INIT                                                                                           \
    { 0 }
void fetch_release(struct fetch *);
/* Wants bytes [off, off+len) of the object; what lies outside of the payload is left out. Nothing for what is
 * there and for objects that are mapped or in memory. Returns whether anything is missing. The blob is
 * borrowed until fetch_release. */
bool fetch_want(struct fetch *, struct blob *, uint64_t off, uint64_t len);
/* Fetches what is wanted, and wants nothing any more. Pages that are damaged are left out: who needs them
 * gets the error. */
int fetch_run(struct fetch *, struct err *);
/* From now on blob_need of this thread fails with ERR_AGAIN where bytes are missing, and wants them. NULL: it
 * fetches again. Returns what was set before. */
struct fetch *fetch_record(struct fetch *);
struct fetch *fetch_recorder(void); /* what is set */
