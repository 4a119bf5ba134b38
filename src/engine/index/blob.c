/* Stored objects as verified memory, and the writer that makes them. Format: docs/FORMAT.md. */
#include "index/blob.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/codec.h"

enum { BLOB_VERSION = 1, TABLE_ENTRY = 4, TRAILER_CRC = BLOB_TRAILER_SIZE - 4 };
#define FETCH_MAX   ((uint64_t)16 * 1024 * 1024) /* bytes of one ranged get */
#define FLUSH_BYTES ((size_t)4 * BLOB_PAGE)

enum blob_mode { BLOB_MEMORY, BLOB_MAPPED, BLOB_FETCHED };

/* Immutable after open but for `verified` (a set bit is never cleared; set with release order after the
 * page's bytes are final) and, in BLOB_FETCHED, the bytes of pages whose bit is clear, which `lock` guards.
 */
struct blob {
    enum blob_mode mode;
    struct object_store *store;
    struct object_mapping mapping;
    char *key, *version, *name;
    const uint8_t *data;
    uint64_t size, payload_end;
    uint64_t n_pages;
    const uint8_t *table;
    _Atomic uint64_t *verified;
    pthread_mutex_t lock;
};

static int corrupt(const struct blob *b, struct err *err, const char *what) {
    return err_set(err, ERR_CORRUPT, "object '%s': %s", b->name, what);
}

static uint64_t pages_of(uint64_t payload_end) {
    return (payload_end + BLOB_PAGE - 1) / BLOB_PAGE;
}

static bool page_is_verified(const struct blob *b, uint64_t page) {
    return atomic_load_explicit(&b->verified[page >> 6], memory_order_acquire) >> (page & 63) & 1;
}

static void page_set_verified(struct blob *b, uint64_t page) {
    atomic_fetch_or_explicit(&b->verified[page >> 6], (uint64_t)1 << (page & 63), memory_order_release);
}

static size_t page_len(const struct blob *b, uint64_t page) {
    return (size_t)MIN((uint64_t)BLOB_PAGE, b->payload_end - page * BLOB_PAGE);
}

static int page_check(const struct blob *b, uint64_t page, const uint8_t *bytes, struct err *err) {
    if (crc32c(0, bytes, page_len(b, page)) == get_u32(b->table + page * TABLE_ENTRY)) return 0;
    return err_set(err, ERR_CORRUPT, "object '%s': page %llu does not match its checksum", b->name,
                   (unsigned long long)page);
}

/* ---- opening ---- */

/* The trailer and the table vouch for each other: the trailer ends with the checksum of all that stands
 * before it back to the table. */
static int read_trailer(struct blob *b, uint32_t kind, bool check_sum, uint32_t checksum, struct err *err) {
    const uint8_t *t = b->data + b->size - BLOB_TRAILER_SIZE;
    uint64_t payload_end = get_u64(t);
    uint64_t n_pages = get_u32(t + 8);
    if (get_u32(t + 12) != kind) return corrupt(b, err, "not of the expected kind, or damaged");
    if (get_u16(t + 16) != BLOB_VERSION)
        return err_set(err, ERR_CORRUPT, "object '%s': format version %u is not known", b->name,
                       get_u16(t + 16));
    if (payload_end < BLOB_HEADER_SIZE || payload_end > b->size || n_pages != pages_of(payload_end) ||
        payload_end + n_pages * TABLE_ENTRY + BLOB_TRAILER_SIZE != b->size)
        return corrupt(b, err, "the trailer does not fit the size");
    uint32_t sum = crc32c(0, b->data + payload_end, n_pages * TABLE_ENTRY + TRAILER_CRC);
    if (sum != get_u32(t + TRAILER_CRC) || (check_sum && sum != checksum))
        return corrupt(b, err, "the page table does not match its checksum");
    b->payload_end = payload_end;
    b->n_pages = n_pages;
    b->table = b->data + payload_end;
    b->verified = xcalloc((size_t)(n_pages + 63) / 64, sizeof *b->verified);
    return 0;
}

static int check_header(const struct blob *b, uint32_t kind, struct err *err) {
    if (get_u32(b->data) == kind && get_u16(b->data + 4) == BLOB_VERSION) return 0;
    return corrupt(b, err, "the header is damaged");
}

static struct blob *blob_new(enum blob_mode mode) {
    struct blob *b = xcalloc(1, sizeof *b);
    b->mode = mode;
    pthread_mutex_init(&b->lock, NULL);
    return b;
}

static void blob_name_it(struct blob *b, const char *key, const char *version) {
    struct buf name = BUF_INIT;
    buf_printf(&name, "%s@%s", key, version ? version : "current");
    buf_str(&name);
    b->name = (char *)buf_detach(&name, NULL);
    b->key = xstrdup(key);
    b->version = version ? xstrdup(version) : NULL;
}

static int get_exactly(struct blob *b, uint64_t off, uint64_t len, struct buf *out, struct err *err) {
    int r = object_get(b->store, b->key, b->version, off, (size_t)len, out, NULL, err);
    if (r) return r;
    if (out->len != len) return corrupt(b, err, "it is shorter than expected");
    return 0;
}

static int open_mapped(struct blob *b, uint64_t size, struct err *err) {
    int r = object_map(b->store, b->key, b->version, &b->mapping, err);
    if (r) return r;
    b->data = b->mapping.data;
    b->size = b->mapping.size;
    if (size && size != b->size)
        return err_set(err, ERR_CORRUPT, "object '%s': %llu bytes, expected %llu", b->name,
                       (unsigned long long)b->size, (unsigned long long)size);
    if (b->size < BLOB_HEADER_SIZE + BLOB_TRAILER_SIZE) return corrupt(b, err, "too short to be an object");
    return 0;
}

/* Reserves the address range and fetches the tail: page table, trailer and the last pages of the payload,
 * where the directory stands. `ret_from` is the page from which on the bytes are there. */
static int open_fetched(struct blob *b, uint64_t size, uint64_t *ret_from, struct err *err) {
    struct object_info info;
    int r = size ? 0 : object_head(b->store, b->key, b->version, &info, err);
    if (r) return r;
    b->size = size ? size : info.size;
    if (b->size < BLOB_HEADER_SIZE + BLOB_TRAILER_SIZE) return corrupt(b, err, "too short to be an object");
    void *p = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return err_sys(err, errno, "could not reserve memory for object '%s'", b->name);
    b->data = p;
    uint64_t tail = BLOB_TRAILER_SIZE + pages_of(b->size) * TABLE_ENTRY + BLOB_PAGE;
    uint64_t from = (b->size - MIN(tail, b->size)) / BLOB_PAGE;
    struct buf bytes = BUF_INIT;
    r = get_exactly(b, from * BLOB_PAGE, b->size - from * BLOB_PAGE, &bytes, err);
    if (!r) memcpy((uint8_t *)p + from * BLOB_PAGE, bytes.data, bytes.len);
    buf_release(&bytes);
    *ret_from = from;
    return r;
}

static int verify_pages_from(struct blob *b, uint64_t page, struct err *err) {
    for (; page < b->n_pages; page++) {
        int r = page_check(b, page, b->data + page * BLOB_PAGE, err);
        if (r) return r;
        page_set_verified(b, page);
    }
    return 0;
}

int blob_open(struct object_store *store, const char *key, const char *version, uint32_t kind, uint64_t size,
              uint32_t checksum, struct blob **ret, struct err *err) {
    struct blob *b = blob_new(object_can_map(store) ? BLOB_MAPPED : BLOB_FETCHED);
    uint64_t from = 0;
    b->store = store;
    blob_name_it(b, key, version && *version ? version : NULL);
    int r = b->mode == BLOB_MAPPED ? open_mapped(b, size, err) : open_fetched(b, size, &from, err);
    if (!r) r = read_trailer(b, kind, size != 0, checksum, err);
    if (!r && b->mode == BLOB_FETCHED) r = verify_pages_from(b, from, err);
    if (!r && (b->mode == BLOB_MAPPED || from == 0)) r = check_header(b, kind, err);
    if (r) {
        blob_close(b);
        return r;
    }
    *ret = b;
    return 0;
}

int blob_open_memory(uint8_t *data, size_t size, uint32_t kind, struct blob **ret, struct err *err) {
    struct blob *b = blob_new(BLOB_MEMORY);
    b->name = xstrdup("memory");
    b->data = data;
    b->size = size;
    int r = 0;
    if (size < BLOB_HEADER_SIZE + BLOB_TRAILER_SIZE) r = corrupt(b, err, "too short to be an object");
    if (!r) r = read_trailer(b, kind, false, 0, err);
    if (!r) r = check_header(b, kind, err);
    if (!r) r = verify_pages_from(b, 0, err);
    if (r) {
        blob_close(b);
        return r;
    }
    *ret = b;
    return 0;
}

void blob_close(struct blob *b) {
    if (!b) return;
    if (b->mode == BLOB_MEMORY) free((void *)b->data);
    if (b->mode == BLOB_MAPPED && b->mapping.data) object_unmap(b->store, &b->mapping);
    if (b->mode == BLOB_FETCHED && b->data) munmap((void *)b->data, b->size);
    pthread_mutex_destroy(&b->lock);
    free((void *)b->verified);
    free(b->key);
    free(b->version);
    free(b->name);
    free(b);
}

uint64_t blob_payload_end(const struct blob *b) {
    return b->payload_end;
}
const char *blob_name(const struct blob *b) {
    return b->name;
}

/* ---- reading ---- */

/* Fetches pages [first, last] in one get and takes over those that are still missing: verified ones may be in
 * use by other threads and are not touched. Under the lock. */
static int fetch_run(struct blob *b, uint64_t first, uint64_t last, struct err *err) {
    struct buf bytes = BUF_INIT;
    uint64_t end = MIN((last + 1) * BLOB_PAGE, b->payload_end);
    int r = get_exactly(b, first * BLOB_PAGE, end - first * BLOB_PAGE, &bytes, err);
    for (uint64_t page = first; !r && page <= last; page++) {
        if (page_is_verified(b, page)) continue;
        const uint8_t *from = bytes.data + (page - first) * BLOB_PAGE;
        r = page_check(b, page, from, err);
        if (r) break;
        memcpy((uint8_t *)b->data + page * BLOB_PAGE, from, page_len(b, page));
        page_set_verified(b, page);
    }
    buf_release(&bytes);
    return r;
}

/* Under the lock: fetches what is missing in [first, last], runs joined over small gaps. */
static int fetch_missing(struct blob *b, uint64_t first, uint64_t last, struct err *err) {
    const uint64_t gap_max = BLOB_COALESCE / BLOB_PAGE, run_max = FETCH_MAX / BLOB_PAGE;
    uint64_t page = first;
    while (page <= last) {
        if (page_is_verified(b, page)) {
            page++;
            continue;
        }
        uint64_t run_last = page;
        for (uint64_t p = page + 1; p <= last && p - run_last <= gap_max && p - page < run_max; p++)
            if (!page_is_verified(b, p)) run_last = p;
        int r = fetch_run(b, page, run_last, err);
        if (r) return r;
        page = run_last + 1;
    }
    return 0;
}

/* Threads may check one mapped page at the same time; the result is the same. */
static int verify_mapped(struct blob *b, uint64_t first, uint64_t last, struct err *err) {
    for (uint64_t page = first; page <= last; page++) {
        if (page_is_verified(b, page)) continue;
        int r = page_check(b, page, b->data + page * BLOB_PAGE, err);
        if (r) return r;
        page_set_verified(b, page);
    }
    return 0;
}

int blob_need(struct blob *b, uint64_t off, uint64_t len, const uint8_t **ret, struct err *err) {
    if (off > b->payload_end || len > b->payload_end - off)
        return err_set(err, ERR_CORRUPT, "object '%s': a reference to bytes %llu+%llu leads outside of it",
                       b->name, (unsigned long long)off, (unsigned long long)len);
    if (len && b->mode != BLOB_MEMORY) {
        uint64_t first = off / BLOB_PAGE, last = (off + len - 1) / BLOB_PAGE;
        while (first <= last && page_is_verified(b, first)) first++;
        int r = 0;
        if (first <= last && b->mode == BLOB_MAPPED) r = verify_mapped(b, first, last, err);
        if (first <= last && b->mode == BLOB_FETCHED) {
            pthread_mutex_lock(&b->lock);
            r = fetch_missing(b, first, last, err);
            pthread_mutex_unlock(&b->lock);
        }
        if (r) return r;
    }
    *ret = b->data + off;
    return 0;
}

int blob_verify_all(struct blob *b, struct err *err) {
    const uint8_t *p;
    int r = blob_need(b, 0, b->payload_end, &p, err);
    if (r) return r;
    return get_u32(p) == get_u32(b->data + b->size - BLOB_TRAILER_SIZE + 12)
               ? 0
               : corrupt(b, err, "header and trailer differ in kind");
}

/* ---- writing ---- */

void blob_writer_init(struct blob_writer *w, int fd, uint32_t kind) {
    *w = (struct blob_writer){.fd = fd, .kind = kind};
    uint8_t header[BLOB_HEADER_SIZE] = {0};
    put_u32(header, kind);
    put_u16(header + 4, BLOB_VERSION);
    blob_write(w, header, sizeof header);
}

static void write_out(struct blob_writer *w, size_t len) {
    for (size_t done = 0; done < len && !w->sys_errno;) {
        ssize_t n = write(w->fd, w->mem.data + done, len - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            w->sys_errno = errno;
    }
    memmove(w->mem.data, w->mem.data + len, w->mem.len - len);
    w->mem.len -= len;
}

static void add_crcs(struct blob_writer *w, size_t len) {
    for (size_t off = 0; off < len; off += BLOB_PAGE)
        buf_add_u32(&w->crcs, crc32c(0, w->mem.data + off, MIN((size_t)BLOB_PAGE, len - off)));
}

/* In file mode `mem` always starts on a page boundary: only whole pages leave it before finish. */
static void flush_pages(struct blob_writer *w) {
    size_t len = w->mem.len / BLOB_PAGE * BLOB_PAGE;
    add_crcs(w, len);
    write_out(w, len);
}

void blob_write(struct blob_writer *w, const void *data, size_t len) {
    const uint8_t *p = data;
    w->off += len;
    while (w->fd >= 0 && w->mem.len + len >= FLUSH_BYTES) {
        size_t n = FLUSH_BYTES - w->mem.len;
        buf_add(&w->mem, p, n);
        flush_pages(w);
        p += n;
        len -= n;
    }
    buf_add(&w->mem, p, len);
}

void blob_write_align(struct blob_writer *w, unsigned align) {
    static const uint8_t zeros[4096];
    assert(align && align <= sizeof zeros && !(align & (align - 1)));
    blob_write(w, zeros, (size_t)(-w->off & (align - 1)));
}

int blob_writer_finish(struct blob_writer *w, uint64_t *ret_size, uint32_t *ret_checksum, struct err *err) {
    uint64_t payload_end = w->off;
    add_crcs(w, w->mem.len);
    if (w->crcs.len / TABLE_ENTRY > UINT32_MAX) return err_set(err, ERR_TOO_LARGE, "the object is too large");
    uint8_t trailer[BLOB_TRAILER_SIZE] = {0};
    put_u64(trailer, payload_end);
    put_u32(trailer + 8, (uint32_t)(w->crcs.len / TABLE_ENTRY));
    put_u32(trailer + 12, w->kind);
    put_u16(trailer + 16, BLOB_VERSION);
    uint32_t sum = crc32c(crc32c(0, w->crcs.data, w->crcs.len), trailer, TRAILER_CRC);
    put_u32(trailer + TRAILER_CRC, sum);
    buf_add(&w->mem, w->crcs.data, w->crcs.len);
    buf_add(&w->mem, trailer, sizeof trailer);
    w->off += w->crcs.len + sizeof trailer;
    if (w->fd >= 0) write_out(w, w->mem.len);
    if (w->sys_errno) return err_sys(err, w->sys_errno, "could not write the staging file");
    *ret_size = w->off;
    *ret_checksum = sum;
    return 0;
}

void blob_writer_release(struct blob_writer *w) {
    buf_release(&w->mem);
    buf_release(&w->crcs);
}
