/* Several gets side by side for stores that have only single ones. */
#pragma once
#include "backend/object_store.h"

/* As object_get_many, by threads that live as long as the call. */
int object_get_threads(struct object_store *, struct object_range *, size_t n, struct err *);
