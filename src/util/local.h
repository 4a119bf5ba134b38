/* Which files are this machine's own. */
#pragma once
#include <stdbool.h>

/* Is the open file on a filesystem that no other machine changes? Then its attributes do not lag behind, and
 * locks and leases hold for everybody. False where that is not known. */
bool file_is_local(int fd);
