/* Small text files, and what the kernel says of processes and threads in them: proc(5). */
#pragma once
#include <stddef.h>

/* The first size - 1 bytes of a file, with NUL behind; returns their number, 0 when it cannot be read. */
size_t text_read(const char *path, char *out, size_t size);
/* Of /proc/ID/FILE; id: of a process or a thread, in this process's namespace. */
size_t proc_read(int id, const char *file, char *out, size_t size);
/* Where a field of /proc/ID/stat begins, from number 3 on; NULL when there is none. The second is the name,
 * which may hold anything. */
const char *proc_field(const char *stat, unsigned number);
