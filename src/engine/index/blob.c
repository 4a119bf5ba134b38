/* Stored objects as verified memory, and the writer that makes them. Format: docs/FORMAT.md. */
#include "index/blob_internal.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "util/codec.h"

/* A large object is written as much at a time as a large page of memory holds, at multiples of it:
 * filesystems then keep it in such pages, and who maps it finds an address in fewer steps (README.md). A
 * small one is not: fresh large pages cost a virtual machine more than fresh small ones. */
#define FLUSH_BYTES       ((size_t)4 * BLOB_PAGE)
#define LARGE_FLUSH_BYTES ((size_t)32 * BLOB_PAGE)
#define LARGE_FROM        ((uint64_t)16 * LARGE_FLUSH_BYTES)

int blob_corrupt(const struct blob *b, struct err *err, const char *what) {
    return err_set(err, ERR_CORRUPT, "object '%s': %s", b->name, what);
}

static uint64_t pages_of(uint64_t payload_end) {
    return (payload_end + BLOB_PAGE - 1) / BLOB_PAGE;
}

static bool page_is_verified(const struct blob *b, uint64_t page) {
    return page_bit(b->verified, page);
}

static void page_set_verified(struct blob *b, uint64_t page) {
    atomic_fetch_or_explicit(&b->verified[page >> 6], (uint64_t)1 << (page & 63), memory_order_release);
}

int blob_check_page(const struct blob *b, uint64_t page, const uint8_t *bytes, struct err *err) {
    if (crc32c(0, bytes, blob_page_len(b, page)) == get_u32(b->table + page * BLOB_TABLE_ENTRY)) return 0;
    return err_set(err, ERR_CORRUPT, "object '%s': page %llu does not match its checksum", b->name,
                   (unsigned long long)page);
}

/* ---- opening ---- */

/* The trailer and the table vouch for each other: the trailer ends with the checksum of all that stands
 * before it back to the table. */
int blob_read_trailer(struct blob *b, const uint8_t *tail, uint64_t len, uint32_t kind, bool check_sum,
                      uint32_t checksum, struct err *err) {
    const uint8_t *t = tail + len - BLOB_TRAILER_SIZE;
    uint64_t payload_end = get_u64(t);
    uint64_t n_pages = get_u32(t + 8);
    if (get_u32(t + 12) != kind) return blob_corrupt(b, err, "not of the expected kind, or damaged");
    if (get_u16(t + 16) != BLOB_VERSION)
        return err_set(err, ERR_CORRUPT, "object '%s': format version %u is not known", b->name,
                       get_u16(t + 16));
    uint64_t table_len = n_pages * BLOB_TABLE_ENTRY;
    if (payload_end < BLOB_HEADER_SIZE || payload_end > b->size || n_pages != pages_of(payload_end) ||
        payload_end + table_len + BLOB_TRAILER_SIZE != b->size || table_len + BLOB_TRAILER_SIZE > len)
        return blob_corrupt(b, err, "the trailer does not fit the size");
    uint32_t sum = crc32c(0, t - table_len, table_len + BLOB_TRAILER_CRC);
    if (sum != get_u32(t + BLOB_TRAILER_CRC) || (check_sum && sum != checksum))
        return blob_corrupt(b, err, "the page table does not match its checksum");
    b->payload_end = payload_end;
    b->n_pages = n_pages;
    b->table = t - table_len;
    return 0;
}

int blob_check_header(const struct blob *b, const uint8_t *header, uint32_t kind, struct err *err) {
    if (get_u32(header) == kind && get_u16(header + 4) == BLOB_VERSION) return 0;
    return blob_corrupt(b, err, "the header is damaged");
}

struct blob *blob_new(enum blob_mode mode, struct object_store *store, const char *key, const char *version) {
    struct blob *b = xcalloc(1, sizeof *b);
    struct buf name = BUF_INIT;
    b->mode = mode;
    b->store = store;
    if (version && !*version) version = NULL;
    if (key) b->key = xstrdup(key);
    if (version) b->version = xstrdup(version);
    if (key)
        buf_printf(&name, "%s@%s", key, version ? version : "current");
    else
        buf_printf(&name, "memory");
    buf_str(&name);
    b->name = (char *)buf_detach(&name, NULL);
    return b;
}

/* Of an object whose bytes are all at `data`. */
static int open_whole(struct blob *b, uint32_t kind, bool check_sum, uint32_t checksum, struct err *err) {
    if (b->size < BLOB_HEADER_SIZE + BLOB_TRAILER_SIZE)
        return blob_corrupt(b, err, "too short to be an object");
    int r = blob_read_trailer(b, b->data, b->size, kind, check_sum, checksum, err);
    if (r) return r;
    b->verified = xcalloc((size_t)(b->n_pages + 63) / 64, sizeof *b->verified);
    return blob_check_header(b, b->data, kind, err);
}

static int open_mapped(struct object_store *store, const struct blob_source *s, struct blob **ret,
                       struct err *err) {
    struct blob *b = blob_new(BLOB_MAPPED, store, s->key, s->version);
    int r = object_map(b->store, b->key, b->version, &b->mapping, err);
    b->data = b->mapping.data;
    b->size = b->mapping.size;
    if (!r && s->size && s->size != b->size)
        r = err_set(err, ERR_CORRUPT, "object '%s': %llu bytes, expected %llu", b->name,
                    (unsigned long long)b->size, (unsigned long long)s->size);
    if (!r) r = open_whole(b, s->kind, s->size != 0, s->checksum, err);
    if (r)
        blob_close(b);
    else
        *ret = b;
    return r;
}

/* Threads may check one mapped page at the same time; the result is the same. */
static int verify_pages(struct blob *b, uint64_t first, uint64_t last, struct err *err) {
    for (uint64_t page = first; page <= last; page++) {
        if (page_is_verified(b, page)) continue;
        int r = blob_check_page(b, page, b->data + page * BLOB_PAGE, err);
        if (r) return r;
        page_set_verified(b, page);
    }
    return 0;
}

int blob_open_many(struct object_store *store, const struct blob_source *sources, size_t n, struct blob **ret,
                   struct err *err) {
    if (!object_can_map(store)) return fetch_open_many(store, sources, n, ret, err);
    for (size_t i = 0; i < n; i++) {
        int r = open_mapped(store, &sources[i], &ret[i], err);
        if (!r) continue;
        while (i--) blob_close(ret[i]);
        return r;
    }
    return 0;
}

int blob_open(struct object_store *store, const char *key, const char *version, uint32_t kind, uint64_t size,
              uint32_t checksum, struct blob **ret, struct err *err) {
    struct blob_source s = {.key = key, .version = version, .kind = kind, .checksum = checksum, .size = size};
    return blob_open_many(store, &s, 1, ret, err);
}

int blob_open_memory(uint8_t *data, size_t size, uint32_t kind, struct blob **ret, struct err *err) {
    struct blob *b = blob_new(BLOB_MEMORY, NULL, NULL, NULL);
    b->data = data;
    b->size = size;
    int r = open_whole(b, kind, false, 0, err);
    if (!r) r = verify_pages(b, 0, b->n_pages - 1, err);
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
    if (b->mode == BLOB_FETCHED) {
        page_set_release(&b->pages);
        free((void *)b->table);
    }
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
bool blob_is_remote(const struct blob *b) {
    return b->mode == BLOB_FETCHED;
}

/* ---- reading ---- */

const uint8_t *blob_at_hand(const struct blob *b, uint64_t off, uint64_t len) {
    if (b->mode == BLOB_FETCHED || !len || off > b->payload_end || len > b->payload_end - off) return NULL;
    for (uint64_t page = off / BLOB_PAGE; b->mode == BLOB_MAPPED && page <= (off + len - 1) / BLOB_PAGE;
         page++)
        if (!page_is_verified(b, page)) return NULL;
    return b->data + off;
}

static int need(struct blob *b, uint64_t off, uint64_t len, bool pinned, const uint8_t **ret,
                struct err *err) {
    if (off > b->payload_end || len > b->payload_end - off)
        return err_set(err, ERR_CORRUPT, "object '%s': a reference to bytes %llu+%llu leads outside of it",
                       b->name, (unsigned long long)off, (unsigned long long)len);
    if (len && !blob_at_hand(b, off, len)) {
        uint64_t first = off / BLOB_PAGE, last = (off + len - 1) / BLOB_PAGE;
        int r = b->mode == BLOB_FETCHED ? fetch_need(b, first, last, pinned, err)
                                        : verify_pages(b, first, last, err);
        if (r) return r;
    }
    *ret = b->data + off;
    return 0;
}

int blob_need(struct blob *b, uint64_t off, uint64_t len, const uint8_t **ret, struct err *err) {
    return need(b, off, len, false, ret, err);
}

int blob_pin(struct blob *b, uint64_t off, uint64_t len, const uint8_t **ret, struct err *err) {
    return need(b, off, len, true, ret, err);
}

int blob_verify_all(struct blob *b, struct err *err) {
    const uint8_t *p;
    int r = blob_need(b, 0, b->payload_end, &p, err);
    if (r) return r;
    return get_u32(p) == get_u32(b->table + b->n_pages * BLOB_TABLE_ENTRY + 12)
               ? 0
               : blob_corrupt(b, err, "header and trailer differ in kind");
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
    w->flushed += len;
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

static size_t flush_bytes(const struct blob_writer *w) {
    return w->flushed < LARGE_FROM ? FLUSH_BYTES : LARGE_FLUSH_BYTES;
}

void blob_write(struct blob_writer *w, const void *data, size_t len) {
    const uint8_t *p = data;
    w->off += len;
    while (w->fd >= 0 && w->mem.len + len >= flush_bytes(w)) {
        size_t n = flush_bytes(w) - w->mem.len;
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
    if (w->crcs.len / BLOB_TABLE_ENTRY > UINT32_MAX)
        return err_set(err, ERR_TOO_LARGE, "the object is too large");
    uint8_t trailer[BLOB_TRAILER_SIZE] = {0};
    put_u64(trailer, payload_end);
    put_u32(trailer + 8, (uint32_t)(w->crcs.len / BLOB_TABLE_ENTRY));
    put_u32(trailer + 12, w->kind);
    put_u16(trailer + 16, BLOB_VERSION);
    uint32_t sum = crc32c(crc32c(0, w->crcs.data, w->crcs.len), trailer, BLOB_TRAILER_CRC);
    put_u32(trailer + BLOB_TRAILER_CRC, sum);
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
