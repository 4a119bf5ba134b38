/* Ingest sessions: the bytes one handle writes (or one file that is renamed into place) as records into the
 * engine.
 *
 * A WRITE checks and appends its lines; it fails only when nothing has been accepted yet and it holds bad
 * lines only. FLUSH makes durable what was accepted, tells about refused lines, and writes the receipt. See
 * docs/FILESYSTEM.md.
 */
#pragma once
#include "node.h"

struct session;
/* file: the name for receipt and rejects; target: an append target (shares its files with others of that
 * minute). */
int session_open(struct call *c, struct place *p, enum ingest_op op, const char *file, bool target,
                 enum decode_format format, enum decode_packing packing, struct session **ret);
/* Do its writes wait for an embedding provider? */
bool session_waits(const struct session *s);
int session_write(struct call *c, struct session *s, const char *data, size_t len);
/* own: by the opener: an incomplete last record is reported, and refused lines are an error. Otherwise
 * commits only. */
int session_flush(struct call *c, struct session *s, bool own);
int session_sync(struct call *c, struct session *s);
/* Takes the last record, commits, writes the receipt, frees. */
void session_close(struct call *c, struct session *s);
/* Shows the receipt as it stands under the dropped name. The place's lock is held. */
void session_show(struct session *s, struct scratch *entry);

/* A whole file at once, under the name it gets in ingest/. Closes nothing. */
int ingest_file(struct call *c, struct node *ingest_dir, const char *name, int fd, enum ingest_op op);
/* Which operation the lines of a rejects file were meant for. */
enum ingest_op ingest_op_of_rejects(const char *name);
