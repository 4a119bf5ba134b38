/* Makes the benchmark's vectors, their filters and their exact neighbours; files are bare little-endian
 * arrays.
 *
 *   vecdata fashion DIR BASE.f32 QUERY.f32           Fashion-MNIST from its gzipped IDX files
 *   vecdata gaussian BASE.f32 QUERY.f32 ROWS         4,000 centres in 96 dimensions, see generate()
 *   vecdata tags BASE.f32 DIM TAGS.u8                filters: bit 0, 1: a random 1 %, 0.1 % of the rows; bit
 * 2, 3: the 1 %, 0.1 % nearest to one row (correlated) vecdata neighbours BASE.f32 QUERY.f32 DIM K OUT.i32 by
 * squared L2 distance, ties by row
 *
 * Compiled with -O3 -march=native. */
#include "bench.h"

#include <math.h>
#include <zlib.h>

enum { CENTRES = 4000, DIMENSIONS = 96, QUERIES = 2000, MAX_K = 100, SPARE = 16, LANES = 8 };
typedef float v8 __attribute__((vector_size(32), aligned(4)));

static void fail(const char *what, const char *name) {
    fprintf(stderr, "vecdata: %s %s\n", what, name);
    exit(1);
}

static void write_file(const char *path, const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f)) fail("cannot write", path);
}

/* ---- Fashion-MNIST ---- */

static void images(const char *dir, const char *name, const char *out) {
    char path[4096];
    unsigned char head[16];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    gzFile f = gzopen(path, "rb");
    if (!f || gzread(f, head, 16) != 16 || head[2] != 8 || head[3] != 3) fail("cannot read", path);
    size_t n = (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];
    size_t cells = n * ((size_t)head[11] * head[15]);
    unsigned char *in = malloc(cells);
    float *values = malloc(cells * sizeof *values);
    if (gzread(f, in, (unsigned)cells) != (int)cells) fail("is cut off:", path);
    for (size_t i = 0; i < cells; i++) values[i] = in[i];
    write_file(out, values, cells * sizeof *values);
    gzclose(f);
    free(in);
    free(values);
}

/* ---- the synthetic million ---- */

static uint64_t random_state;
static uint64_t random_bits(void) { /* splitmix64 */
    uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static double random_unit(void) { /* (0, 1) */
    return ((double)(random_bits() >> 11) + 0.5) / 9007199254740992.0;
}
static double random_normal(void) { /* Box-Muller; the second half is kept */
    static double kept;
    static bool have;
    if (have) {
        have = false;
        return kept;
    }
    double r = sqrt(-2 * log(random_unit())), a = 2 * M_PI * random_unit();
    kept = r * sin(a);
    have = true;
    return r * cos(a);
}

static void points(const float *centres, const double *cumulated, size_t n, const char *out) {
    float *v = malloc(n * DIMENSIONS * sizeof *v);
    for (size_t i = 0; i < n; i++) {
        double u = random_unit() * cumulated[CENTRES - 1];
        size_t lo = 0, hi = CENTRES - 1;
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            if (cumulated[mid] < u)
                lo = mid + 1;
            else
                hi = mid;
        }
        for (size_t d = 0; d < DIMENSIONS; d++)
            v[i * DIMENSIONS + d] = (float)(centres[lo * DIMENSIONS + d] + 0.55 * random_normal());
    }
    write_file(out, v, n * DIMENSIONS * sizeof *v);
    free(v);
}

/* Standard normal centres with Dirichlet(0.5) weights (Gamma(0.5) variates are halved squares of normal
 * ones); points are a centre + 0.55 x standard normal. */
static void generate(const char *base, const char *query, size_t n) {
    float *centres = malloc(sizeof *centres * CENTRES * DIMENSIONS);
    double cumulated[CENTRES], sum = 0;
    random_state = 1;
    for (size_t i = 0; i < CENTRES * DIMENSIONS; i++) centres[i] = (float)random_normal();
    for (size_t i = 0; i < CENTRES; i++) {
        double x = random_normal();
        cumulated[i] = sum += x * x / 2;
    }
    random_state = 2;
    points(centres, cumulated, n, base);
    random_state = 3;
    points(centres, cumulated, QUERIES, query);
    free(centres);
}

/* ---- distances ---- */

static const float *map_floats(const char *path, size_t dim, size_t *rows) {
    size_t len;
    const void *p = bench_map(path, &len);
    if (!p) fail("cannot read", path);
    *rows = len / sizeof(float) / dim;
    return p;
}

/* Whole numbers up to 255 are added without rounding: no lane exceeds 2^24. */
static double distance(const float *a, const float *b, size_t dim) {
    v8 s0 = {0}, s1 = {0};
    size_t i = 0;
    double sum = 0;
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        v8 d0 = *(const v8 *)(a + i) - *(const v8 *)(b + i),
           d1 = *(const v8 *)(a + i + LANES) - *(const v8 *)(b + i + LANES);
        s0 += d0 * d0;
        s1 += d1 * d1;
    }
    for (int k = 0; k < LANES; k++) sum += (double)s0[k] + (double)s1[k];
    for (; i < dim; i++) sum += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
    return sum;
}

static double exact_distance(const float *a, const float *b, size_t dim) {
    double sum = 0;
    for (size_t i = 0; i < dim; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

struct near {
    double distance;
    uint32_t row;
};
struct top { /* ascending */
    struct near best[MAX_K + SPARE];
    uint32_t n, want;
};

static int compare_near(const void *pa, const void *pb) {
    const struct near *a = pa, *b = pb;
    return a->distance != b->distance ? (a->distance > b->distance) - (a->distance < b->distance)
                                      : (a->row > b->row) - (a->row < b->row);
}

static void offer(struct top *t, double d, uint32_t row) {
    if (t->n == t->want && !(d < t->best[t->n - 1].distance)) return;
    uint32_t i = t->n < t->want ? t->n++ : t->n - 1;
    for (; i && t->best[i - 1].distance > d; i--) t->best[i] = t->best[i - 1];
    t->best[i] = (struct near){d, row};
}

struct job {
    const float *base, *query;
    size_t n, n_queries, dim, k, next;
    int32_t *out;
};
enum { QUERY_BLOCK = 32, ROW_BLOCK = 128 };

static void solve(struct job *j, size_t first, size_t end, struct top *tops) {
    for (size_t q = first; q < end; q++) tops[q - first] = (struct top){.want = (uint32_t)j->k + SPARE};
    for (size_t r0 = 0; r0 < j->n; r0 += ROW_BLOCK)
        for (size_t q = first; q < end; q++)
            for (size_t r = r0; r < r0 + ROW_BLOCK && r < j->n; r++)
                offer(&tops[q - first], distance(j->base + r * j->dim, j->query + q * j->dim, j->dim),
                      (uint32_t)r);
    for (size_t q = first; q < end; q++) {
        struct top *t = &tops[q - first];
        for (uint32_t i = 0; i < t->n; i++)
            t->best[i].distance =
                exact_distance(j->base + t->best[i].row * j->dim, j->query + q * j->dim, j->dim);
        qsort(t->best, t->n, sizeof *t->best, compare_near);
        for (size_t i = 0; i < j->k; i++) j->out[q * j->k + i] = i < t->n ? (int32_t)t->best[i].row : -1;
    }
}

static void *solve_blocks(void *arg) {
    struct job *j = arg;
    struct top *tops = malloc(QUERY_BLOCK * sizeof *tops);
    for (;;) {
        size_t first = __atomic_fetch_add(&j->next, QUERY_BLOCK, __ATOMIC_RELAXED);
        if (first >= j->n_queries) break;
        size_t end = first + QUERY_BLOCK;
        solve(j, first, end < j->n_queries ? end : j->n_queries, tops);
    }
    free(tops);
    return NULL;
}

static void neighbours(char **arg) {
    struct job j = {.dim = (size_t)atoi(arg[2]), .k = (size_t)atoi(arg[3])};
    pthread_t threads[BENCH_MAX_THREADS];
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (j.k < 1 || j.k > MAX_K) fail("K is 1 to 100, not", arg[3]);
    j.base = map_floats(arg[0], j.dim, &j.n);
    j.query = map_floats(arg[1], j.dim, &j.n_queries);
    j.out = malloc(j.n_queries * j.k * sizeof *j.out);
    for (long i = 0; i < n && i < BENCH_MAX_THREADS; i++) pthread_create(&threads[i], NULL, solve_blocks, &j);
    for (long i = 0; i < n && i < BENCH_MAX_THREADS; i++) pthread_join(threads[i], NULL);
    write_file(arg[4], j.out, j.n_queries * j.k * sizeof *j.out);
}

static void tags(char **arg) {
    size_t dim = (size_t)atoi(arg[1]), n;
    const float *base = map_floats(arg[0], dim, &n);
    uint8_t *out = calloc(n, 1);
    struct near *by_distance = malloc(n * sizeof *by_distance);
    random_state = 4;
    for (uint32_t i = 0; i < n; i++)
        by_distance[i] = (struct near){distance(base + (size_t)i * dim, base + n / 2 * dim, dim), i};
    qsort(by_distance, n, sizeof *by_distance, compare_near);
    for (size_t i = 0; i < n / 100; i++) out[by_distance[i].row] |= i < n / 1000 ? 4 | 8 : 4;
    for (size_t i = 0; i < n / 100;) {
        size_t row = random_bits() % n;
        if (out[row] & 1) continue;
        out[row] |= i < n / 1000 ? 1 | 2 : 1;
        i++;
    }
    write_file(arg[2], out, n);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "fashion") && argc == 5) {
        images(argv[2], "train-images-idx3-ubyte.gz", argv[3]);
        images(argv[2], "t10k-images-idx3-ubyte.gz", argv[4]);
    } else if (!strcmp(what, "gaussian") && argc == 5) {
        generate(argv[2], argv[3], (size_t)atol(argv[4]));
    } else if (!strcmp(what, "tags") && argc == 5) {
        tags(argv + 2);
    } else if (!strcmp(what, "neighbours") && argc == 7) {
        neighbours(argv + 2);
    } else {
        fprintf(stderr, "usage: vecdata fashion|gaussian|tags|neighbours ... (see vecdata.c)\n");
        return 2;
    }
    return 0;
}
