/* Between the two files that know FUSE: ops.c answers requests, serve.c has the session. */
#pragma once
#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

extern const struct fuse_lowlevel_ops fs_requests;
