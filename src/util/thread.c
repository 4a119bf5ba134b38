/* Linux: affinity and priority of threads, control groups. */
#include "util/thread.h"
#include "util/proc.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    TEXT_SIZE = 4096,
    PROCESSOR_FIELD = 39, /* of /proc/ID/stat */
    LEAST_PRIORITY = 19
};

static _Thread_local struct {
    bool held;
    int processor;
    cpu_set_t before;
} me;

int thread_create(pthread_t *ret, void *(*main)(void *), void *arg) {
    pthread_attr_t attr;
    if (!me.held) return pthread_create(ret, NULL, main, arg);
    pthread_attr_init(&attr);
    int e = pthread_attr_setaffinity_np(&attr, sizeof me.before, &me.before);
    if (!e) e = pthread_create(ret, &attr, main, arg);
    pthread_attr_destroy(&attr);
    return e;
}

static bool set(const cpu_set_t *processors) {
    return !sched_setaffinity(0, sizeof *processors, processors);
}

/* Still as it was held? */
static bool is_ours(const cpu_set_t *now) {
    return me.held && CPU_COUNT(now) == 1 && CPU_ISSET(me.processor, now);
}

bool thread_hold(int processor) {
    cpu_set_t now, one;
    if (processor < 0 || processor >= CPU_SETSIZE || sched_getaffinity(0, sizeof now, &now)) return false;
    if (!is_ours(&now)) me.before = now;
    if (!CPU_ISSET(processor, &me.before)) return false;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    if (!set(&one)) return false;
    me.held = true;
    me.processor = processor;
    return true;
}

void thread_let_go(void) {
    cpu_set_t now;
    if (!me.held) return;
    if (!sched_getaffinity(0, sizeof now, &now) && is_ours(&now)) set(&me.before);
    me.held = false;
}

int thread_held(void) {
    return me.held ? me.processor : -1;
}

int thread_processor(int id) {
    char text[TEXT_SIZE];
    proc_read(id, "stat", text, sizeof text);
    const char *at = proc_field(text, PROCESSOR_FIELD);
    return at ? atoi(at) : -1;
}

bool thread_give_way(void) {
    return !setpriority(PRIO_PROCESS, (id_t)gettid(), LEAST_PRIORITY);
}

/* cpu.max of a group and of those it lies in: "max PERIOD" without a limit (Linux, admin-guide/cgroup-v2). */
static bool has_quota(char *group) {
    char path[TEXT_SIZE + 64], text[64];
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        text_read(path, text, sizeof text);
        if (text[0] >= '0' && text[0] <= '9') return true;
        char *end = strrchr(group, '/');
        if (!end) return false;
        *end = 0;
    }
}

bool thread_time_is_limited(void) {
    char text[TEXT_SIZE], quota[64];
    cpu_set_t now;
    if (!sched_getaffinity(0, sizeof now, &now) && CPU_COUNT(&now) == 1) return true;
    text_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota, sizeof quota); /* version 1, in a container */
    if (quota[0] >= '0' && quota[0] <= '9') return true;
    text_read("/proc/self/cgroup", text, sizeof text);
    char *group = strstr(text, "0::/");
    if (!group) return false;
    group += 3;
    group[strcspn(group, "\n")] = 0;
    return has_quota(group);
}
