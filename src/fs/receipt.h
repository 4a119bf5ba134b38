/* What a session leaves behind: its receipt, and the lines that were refused with their reasons. */
#pragma once
#include "node.h"

enum { RECEIPT_NOTES_MAX = 20 };

struct receipt {
    char *file; /* the name it was sent under */
    const char *op;
    bool target; /* an append target: one line a session in a file per minute */
    enum decode_format format;
    uint64_t accepted, rejected, warnings, bytes, first_seq, last_seq;
    int64_t started_ms, finished_ms;
    struct err error; /* set: the session ended with it */
    struct buf notes; /* the first warnings, as JSON objects */
    uint32_t n_notes;
    char *rejects_name; /* NULL: nothing was refused */
    int rejects_fd, reasons_fd;
    bool header_written;
};
void receipt_init(struct receipt *r, const char *file, enum ingest_op op, bool target,
                  enum decode_format format);
void receipt_release(struct receipt *r);
void receipt_note(struct receipt *r, uint64_t line, const char *text);
/* Keeps a refused record. header: of a CSV file, or NULL. */
int receipt_reject(struct fs *fs, struct place *p, struct receipt *r, const struct decode_record *rec,
                   const struct err *why, const char *header, size_t header_len, struct err *err);
/* A dropped name reads as its receipt: padded with blanks to the size that was sent, so that sizes are exact.
 * Shorter files are shown with the receipt's own size. */
void receipt_show(const struct receipt *r, struct scratch *s);
/* One read of it. The place's lock is held. */
void receipt_read(const struct scratch *s, uint64_t offset, size_t size, struct buf *out);
/* As one JSON object with a newline. */
void receipt_text(const struct receipt *r, bool pretty, struct buf *out);
/* Writes it to receipts/ (the data itself is already safe). For a target the counts start again. */
int receipt_write(struct fs *fs, struct place *p, struct receipt *r, struct err *err);
