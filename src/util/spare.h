/* Work in pieces that a thread may help with which is awake and has nothing to do: taking a piece costs it no
 * wake-up. Nobody waits for that thread, which may lose its processor at any time and for long: a piece that
 * it has begun and does not finish soon is left to it, and whoever needs the piece makes it again. So a piece
 * leaves its result in the job's own memory, depends on no other piece, and takes no lock that others need.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { SPARE_PIECES_MAX = 64 };
struct spare_job {
    uint32_t n; /* pieces, at most SPARE_PIECES_MAX */
    void (*piece)(struct spare_job *, uint32_t i);
    void (*free)(struct spare_job *); /* never called by the thread that helps: it takes locks */
    /* private, zeros at first; atomic */
    uint64_t taken, done;
    uint32_t refs;
    struct spare_job *next;
};

/* Is there a thread that helps, most likely? */
bool spare_is_there(void);
/* Does the pieces, with help if there is any. Returns those that are done, bit i for piece i; the job's
 * memory may be looked at until spare_end. */
uint64_t spare_run(struct spare_job *);
void spare_end(struct spare_job *);
/* Frees the jobs that the helping thread was the last to look at. spare_run does so, too. */
void spare_tidy(void);

/* ---- the thread that helps ---- */
void spare_begin_helping(void);
uint32_t spare_help(void); /* does what there is to do just now; again and again. Pieces that it did */
void spare_end_helping(void);
