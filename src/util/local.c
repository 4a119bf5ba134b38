/* Linux: the kinds of filesystems, by their magic numbers. */
#include "util/local.h"
#include "util/buf.h"

#include <linux/magic.h>
#include <sys/vfs.h>

bool file_is_local(int fd) {
    static const long long local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,  BTRFS_SUPER_MAGIC,
                                      TMPFS_MAGIC,      F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC};
    struct statfs fs;
    if (fstatfs(fd, &fs)) return false;
    for (size_t i = 0; i < ARRAY_SIZE(local); i++)
        if ((uint32_t)fs.f_type == (uint32_t)local[i]) return true;
    return false;
}
