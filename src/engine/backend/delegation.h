/* Read delegations, as NFSv4 has them (RFC 8881, 10.4), between the processes of a machine: who holds one may
 * go on using what it has read, without asking again, until it is recalled. Who changes what the delegation
 * stands for recalls those of all processes first, and waits until each is given back.
 *
 * A Linux file lease (fcntl(2), F_SETLEASE) on an empty file: taking one is reading, changing is opening for
 * writing. A holder that dies holds nothing any more; one that does not answer (a stopped process) loses it
 * after /proc/sys/fs/lease-break-time, 45 s, and the change goes on without it.
 *
 * None are to be had where another machine could be the one that changes, where the filesystem has no leases,
 * and of another user's file. Thread-safe.
 */
#pragma once
#include "util/err.h"

#include <stdbool.h>

struct delegation;
struct delegation *delegation_new(const char *path); /* made when it is first used */
void delegation_free(struct delegation *);           /* NULL is fine */

/* From now on one can be taken. recalled: on a thread of its own (or by take and unwatch, below), no lock
 * held; is_held is false already; when it returns the delegation is given back. Once. */
int delegation_watch(struct delegation *, void (*recalled)(void *ctx), void *ctx, struct err *);
/* Gives back what is held as a recall would; then none can be taken any more, and recalled is not called. */
void delegation_unwatch(struct delegation *);
/* True: held. What is read after this is covered. Now and then, while it is held, too: if another file has
 * the path meanwhile, those who change ask there, and this one is given back first. */
bool delegation_take(struct delegation *);
/* What was read while this was true need not be read again, until recalled is called. */
bool delegation_is_held(const struct delegation *);

/* Recalls all and waits; until resume none can be taken. ret: for resume. */
int delegation_recall(struct delegation *, int *ret, struct err *);
void delegation_resume(int recall);
