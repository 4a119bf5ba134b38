// FAISS's driver, with the library of the distribution (built for any processor: no AVX). L2 distance.
//
//   faiss_bench build BASE.f32 DIM INDEX KIND     KIND as FAISS's factory names it: IVF256,Flat HNSW16 Flat
//   faiss_bench serve DIM QUERY.f32 INDEX         the line protocol of bench.h:
//     round THREADS PASSES PARAMETER N            PARAMETER: nprobe or efSearch
//     hits PARAMETER OUT.i32 N
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVF.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>
#include <omp.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bench.h"

enum { TOP = 10 };
struct Driver {
    const float *query;
    size_t n_queries, dim;
    std::unique_ptr<faiss::Index> index;
    std::vector<int32_t> hits;
};

static const float *map_floats(const char *path, size_t dim, size_t *rows) {
    size_t len;
    const void *p = bench_map(path, &len);
    if (!p) exit(1);
    *rows = len / sizeof(float) / dim;
    return (const float *)p;
}

static int build(char **arg) {
    size_t dim = (size_t)atoi(arg[1]), n;
    const float *base = map_floats(arg[0], dim, &n);
    std::unique_ptr<faiss::Index> index(faiss::index_factory((int)dim, arg[3]));
    if (auto *h = dynamic_cast<faiss::IndexHNSW *>(index.get())) h->hnsw.efConstruction = 200;
    uint64_t start = now_ns();
    index->train((int64_t)std::min<size_t>(n, 131072), base);
    index->add((int64_t)n, base);
    double seconds = (double)(now_ns() - start) / 1e9;
    faiss::write_index(index.get(), arg[2]);
    printf("{\"n\":%zu,\"seconds\":%.4f}\n", n, seconds);
    return 0;
}

static int run_search(void *ctx, unsigned, uint32_t q) {
    Driver *d = (Driver *)ctx;
    float distance[TOP];
    int64_t rows[TOP];
    d->index->search(1, d->query + q * d->dim, TOP, distance, rows);
    if (!d->hits.empty())
        for (int i = 0; i < TOP; i++) d->hits[(size_t)q * TOP + i] = (int32_t)rows[i];
    return 0;
}

static void set_parameter(Driver *d, int value) {
    if (auto *h = dynamic_cast<faiss::IndexHNSW *>(d->index.get())) h->hnsw.efSearch = value;
    if (auto *v = dynamic_cast<faiss::IndexIVF *>(d->index.get())) v->nprobe = (size_t)value;
}

static void handle(void *ctx, char **w, int n) {
    Driver *d = (Driver *)ctx;
    if (!strcmp(w[0], "round") && n > 4) {
        set_parameter(d, atoi(w[3]));
        bench_run(run_search, d, std::min<uint32_t>((uint32_t)atoi(w[4]), (uint32_t)d->n_queries),
                  (uint32_t)atoi(w[2]), (unsigned)atoi(w[1]), NULL);
    } else if (!strcmp(w[0], "hits") && n > 3) {
        uint32_t queries = std::min<uint32_t>((uint32_t)atoi(w[3]), (uint32_t)d->n_queries);
        set_parameter(d, atoi(w[1]));
        d->hits.assign((size_t)queries * TOP, -1);
        for (uint32_t q = 0; q < queries; q++) run_search(d, 0, q);
        FILE *f = fopen(w[2], "wb");
        if (f) fwrite(d->hits.data(), 4 * TOP, queries, f);
        if (f) fclose(f);
        d->hits.clear();
        printf("{\"n\":%u}\n", queries);
    } else {
        bench_error("unknown command");
    }
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "build")) return build(argv + 2);
    if (argc != 5) return 2;
    omp_set_num_threads(1);
    Driver d;
    d.dim = (size_t)atoi(argv[2]);
    d.query = map_floats(argv[3], d.dim, &d.n_queries);
    d.index.reset(faiss::read_index(argv[4]));
    bench_serve(handle, &d);
    return 0;
}
