/* Threads, and the processors they run on. */
#pragma once
#include <pthread.h>
#include <stdbool.h>

/* pthread_create; the new thread may run where the caller may, even while the caller is held (below). */
int thread_create(pthread_t *ret, void *(*)(void *), void *arg);

/* The calling thread runs on this processor only, until it is held elsewhere or let go. False: it may not run
 * there, and stays as it was. What others set for the thread meanwhile stands. */
bool thread_hold(int processor);
/* It may run again where it could before it was held. */
void thread_let_go(void);
/* The one that the calling thread is held on; -1: it is not. */
int thread_held(void);
/* The processor that a thread of this machine ran on last, by its id in this process's namespace; -1: not
 * known. Some microseconds. */
int thread_processor(int id);
/* The calling thread gets the least share of a processor that others want, too. */
bool thread_give_way(void);
/* Is the processor time of this process limited (cgroups' quota, or the caller may run on one processor
 * only)? Then what one thread takes all others lack. */
bool thread_time_is_limited(void);
