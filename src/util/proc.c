/* Reads of /proc and the like. */
#include "util/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

size_t text_read(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
    if (fd >= 0) close(fd);
    if (n < 0) n = 0;
    out[n] = 0;
    return (size_t)n;
}

size_t proc_read(int id, const char *file, char *out, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", id, file);
    return text_read(path, out, size);
}

const char *proc_field(const char *stat, unsigned number) {
    const char *at = strrchr(stat, ')');
    for (unsigned field = 2; at && field < number; field++) at = strchr(at + 1, ' ');
    return at ? at + 1 : NULL;
}
