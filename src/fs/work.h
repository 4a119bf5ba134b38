/* Where requests run: on the thread that read them, while only a few do so, else in a worker pool.
 *
 * A hand-over to another thread costs more than most requests. So up to WORK_HERE_MAX requests may run, and
 * block, on loop threads; the loop has more threads than that, and what comes while all of these places are
 * taken goes to a pool. The pools are separate so that metadata never waits behind queries, nor queries
 * behind writes that wait for a disk.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* WORK_DOCS: documents by name, which may have to wait until what was written just now is indexed. */
enum work_pool { WORK_META, WORK_DOCS, WORK_QUERY, WORK_WRITE, WORK_POOLS };
enum { WORK_HERE_MAX = 8 };
enum job_state { JOB_NEW, JOB_QUEUED, JOB_PARKED, JOB_RUNNING };

/* Embedded in what is to be done. Guarded by the lock of struct work, but for cancel (set once, read
 * anywhere). */
struct job {
    struct job *prev, *next;
    void (*run)(struct job *);
    enum work_pool pool;
    enum job_state state;
    volatile int cancel;
    bool patient;      /* stays in its queue when it is canceled, until work_sweep */
    int64_t pushed_ms; /* monotonic */
};
struct job_list {
    struct job head; /* ring */
};
void job_list_init(struct job_list *l);
void job_list_add(struct job_list *l, struct job *j);
struct job *job_list_take(struct job_list *l); /* NULL when empty */

struct work {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct {
        pthread_cond_t more;
        struct job_list queue;
        uint64_t waiting;
    } pools[WORK_POOLS];
    pthread_t *threads;
    unsigned n_threads;
    uint64_t busy; /* queued or running jobs, places taken included */
    unsigned here; /* places taken by loop threads */
    bool stop;
};
/* Starts the threads. Returns 0 or an errno value. */
int work_start(struct work *w, const unsigned threads[WORK_POOLS]);
void work_push(struct work *w, struct job *j, enum work_pool pool);
/* Takes a place for the calling thread, which then runs j (and may block) and calls work_leave; false: none
 * is free. */
bool work_enter(struct work *w, struct job *j, enum work_pool pool);
void work_leave(struct work *w);
/* The same with w->lock held. */
void work_push_locked(struct work *w, struct job *j, enum work_pool pool);
/* Sets cancel; a job that is still queued is moved to the front of the metadata pool, where it can answer.
 * With the lock held. */
void work_cancel_locked(struct work *w, struct job *j);
/* Patient jobs that are canceled and were queued before since_ms move to where they can answer. */
void work_sweep(struct work *w, int64_t since_ms);
/* Waits until nothing is queued or running, at most timeout_ms. False: still busy. */
bool work_drain(struct work *w, int64_t timeout_ms);
/* Ends the threads after what is queued. */
void work_stop(struct work *w);
