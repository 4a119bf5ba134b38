/* Short ways between a client and the thread that serves it.
 *
 * A client of a filesystem waits for each answer, so it and the thread that serves it never run at once.
 * Where a processor that has nothing to do goes to sleep, waking it takes longer than most requests: in a
 * virtual machine some 50 us, twice for each request (tests/bench/notes.md). Two things against that. Nothing
 * but time depends on them.
 *
 * Awake: while requests come, a thread of the lowest priority keeps a processor awake; awake_us after the
 * last request it sleeps. It is not of the idle class, because where such a thread runs counts as free, and
 * clients are moved there. There is none where processor time is limited: it would be taken from the
 * requests. As it is awake anyway, it helps with what comes in pieces (util/spare.h).
 *
 * Near: the thread that reads follows its client to the client's processor, so that no other one has to be
 * woken. Only as long as requests come one after the other, and as long as clients stay where they are: where
 * the kernel puts them elsewhere each time it is tried again later, after twice as long each time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct awake;
/* NULL: not wanted (awake_us is 0), or not to be had; the functions below take it. */
struct awake *awake_start(unsigned awake_us);
void awake_stop(struct awake *);
/* A request was received; alone: no other one is being worked on. Where several are, nothing sleeps, and the
 * processors are theirs. */
void awake_poke(struct awake *, bool alone, int64_t now_us);

/* Of a thread that reads: whom it follows. Zeros at first. */
struct near {
    int client;            /* thread */
    unsigned due, pause;   /* requests until it is looked after again, and how many between looks */
    unsigned looks, moves; /* how often it was looked after, and was found elsewhere */
    int64_t rest_us, rest_until_us;
};
/* A request of this thread was received; alone: no other request is being worked on. client as
 * loop.h has it: of what nobody waits for nothing changes. */
void near_follow(struct near *, int client, bool alone, int64_t now_us);
