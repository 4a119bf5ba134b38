// hnswlib's driver, and beside it what needs no library: the scan of the allowed vectors and the plain sum of
// the bytes. Compiled with -O3 -march=native. L2 distance.
//
//   hnsw_bench build BASE.f32 DIM INDEX THREADS    M=16, efConstruction=200; prints its times as JSON
//   hnsw_bench serve BASE.f32 DIM QUERY.f32 [INDEX]    the line protocol of bench.h:
//     round THREADS PASSES EF               top 10 of every query
//     hits EF OUT.i32                       the answers, 10 numbers a query
//     filter TAGS.u8 MASK                   only rows whose tag has a bit of MASK are wanted; 0: all
//     round_filtered THREADS PASSES EF N    the graph, passing through the others; the first N queries
//     hits_filtered EF OUT.i32 N
//     round_scan THREADS PASSES N           exactly the allowed rows, one after the other
//     hits_scan OUT.i32 N
//     sum PASSES FILE OFFSET                adds up as many floats of FILE as BASE has
#include <algorithm>
#include <hnswlib/hnswlib.h>
#include <memory>
#include <string>
#include <thread>

#include "bench.h"

using Graph = hnswlib::HierarchicalNSW<float>;
enum { TOP = 10 };

struct Filled { // ascending (distance, row) of at most TOP
    std::pair<float, uint32_t> best[TOP];
    int n = 0;
    void offer(float d, uint32_t row) {
        if (n == TOP && !(d < best[TOP - 1].first)) return;
        int i = n < TOP ? n++ : TOP - 1;
        for (; i && best[i - 1].first > d; i--) best[i] = best[i - 1];
        best[i] = {d, row};
    }
};

struct Driver {
    const float *base, *query, *summed = nullptr;
    size_t n, n_queries, dim;
    hnswlib::L2Space space;
    std::unique_ptr<Graph> graph;
    std::vector<uint32_t> allowed; // rows
    bool filtered = false;
    std::vector<int32_t> hits;
    float sum = 0;
    explicit Driver(size_t d) : dim(d), space(d) {}

    void keep(uint32_t q, const int32_t *rows, int count) {
        if (hits.empty()) return;
        for (int i = 0; i < TOP; i++) hits[(size_t)q * TOP + i] = i < count ? rows[i] : -1;
    }
    void search(uint32_t q) {
        int32_t rows[TOP];
        auto found = graph->searchKnn(query + q * dim, TOP);
        int count = (int)found.size();
        for (int i = count; i--; found.pop()) rows[i] = (int32_t)found.top().second;
        keep(q, rows, count);
    }
    void scan(uint32_t q) {
        Filled top;
        int32_t rows[TOP];
        auto distance = space.get_dist_func();
        void *param = space.get_dist_func_param();
        const float *x = query + q * dim;
        for (uint32_t row : allowed) top.offer(distance(x, base + row * dim, param), row);
        for (int i = 0; i < top.n; i++) rows[i] = (int32_t)top.best[i].second;
        keep(q, rows, top.n);
    }
};

static const float *map_floats(const char *path, size_t dim, size_t *rows) {
    size_t len;
    const void *p = bench_map(path, &len);
    if (!p) {
        fprintf(stderr, "hnsw_bench: cannot read %s\n", path);
        exit(1);
    }
    *rows = len / sizeof(float) / dim;
    return (const float *)p;
}

static int build(char **arg) {
    size_t dim = (size_t)atoi(arg[1]), n;
    const float *base = map_floats(arg[0], dim, &n);
    unsigned threads = (unsigned)atoi(arg[3]);
    hnswlib::L2Space space(dim);
    uint64_t start = now_ns();
    Graph graph(&space, n, 16, 200);
    graph.addPoint(base, 0);
    std::atomic<size_t> next(1);
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < threads; t++)
        workers.emplace_back([&] {
            for (size_t i; (i = next++) < n;) graph.addPoint(base + i * dim, i);
        });
    for (auto &w : workers) w.join();
    double seconds = (double)(now_ns() - start) / 1e9;
    if (*arg[2]) graph.saveIndex(arg[2]);
    printf("{\"n\":%zu,\"threads\":%u,\"seconds\":%.4f,\"cpu_seconds\":%.4f,\"bytes\":%zu,\"graph_bytes\":%"
           "zu}\n",
           n, threads, seconds, cpu_seconds(), graph.size_data_per_element_ * n,
           (graph.size_data_per_element_ - dim * sizeof(float)) * n);
    return 0;
}

static int run_search(void *d, unsigned, uint32_t q) {
    ((Driver *)d)->search(q);
    return 0;
}
static int run_scan(void *d, unsigned, uint32_t q) {
    ((Driver *)d)->scan(q);
    return 0;
}

// Eight accumulators of eight floats: what memory gives, not what one addition's latency allows.
static int run_sum(void *ctx, unsigned, uint32_t) {
    typedef float v8 __attribute__((vector_size(32), aligned(4)));
    Driver *d = (Driver *)ctx;
    const v8 *p = (const v8 *)d->summed;
    size_t n = d->n * d->dim / 64;
    v8 s[8] = {};
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 8; k++) s[k] += p[i * 8 + k];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 8; i++) d->sum += s[k][i];
    return 0;
}

static void write_hits(Driver *d, bench_item *run, const char *path, uint32_t n) {
    d->hits.assign((size_t)n * TOP, -1);
    for (uint32_t q = 0; q < n; q++) run(d, 0, q);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(d->hits.data(), 4 * TOP, n, f) == n;
    if (f && fclose(f)) ok = false;
    d->hits.clear();
    if (ok)
        printf("{\"n\":%u}\n", n);
    else
        bench_error("cannot write the hits");
}

// This version of hnswlib has no filter functor; rows marked deleted are passed through and not returned,
// which is the same.
static void set_filter(Driver *d, const char *path, int mask) {
    size_t len;
    const uint8_t *tags = (const uint8_t *)bench_map(path, &len);
    if (!tags || len < d->n) {
        bench_error("cannot read the tags");
        return;
    }
    d->allowed.clear();
    for (uint32_t i = 0; i < d->n; i++) {
        bool ok = !mask || (tags[i] & mask);
        if (ok) d->allowed.push_back(i);
        if (!d->graph) continue;
        hnswlib::tableint row = d->graph->label_lookup_[i];
        if (d->graph->isMarkedDeleted(row) == ok) {
            if (ok)
                d->graph->unmarkDelete(i);
            else
                d->graph->markDelete(i);
        }
    }
    munmap((void *)tags, len);
    printf("{\"n\":%zu}\n", d->allowed.size());
}

static void handle(void *ctx, char **w, int n) {
    Driver *d = (Driver *)ctx;
    std::string what = w[0];
    auto number = [&](int i) { return i < n ? (uint32_t)atoi(w[i]) : 0; };
    auto queries = [&](int i) {
        return number(i) ? std::min<uint32_t>(number(i), (uint32_t)d->n_queries) : (uint32_t)d->n_queries;
    };
    bool graph = what == "round" || what == "hits" || what == "round_filtered" || what == "hits_filtered";
    if (graph && !d->graph) {
        bench_error("no index");
    } else if (what == "round" || what == "round_filtered") {
        d->graph->setEf(number(3));
        bench_run(run_search, d, queries(4), number(2), number(1), NULL);
    } else if (what == "hits" || what == "hits_filtered") {
        d->graph->setEf(number(1));
        write_hits(d, run_search, w[2], queries(3));
    } else if (what == "round_scan") {
        bench_run(run_scan, d, queries(3), number(2), number(1), NULL);
    } else if (what == "hits_scan") {
        write_hits(d, run_scan, w[1], queries(2));
    } else if (what == "filter") {
        set_filter(d, w[1], (int)number(2));
    } else if (what == "sum" && n == 4) {
        size_t rows;
        if (!d->summed) d->summed = map_floats(w[2], 1, &rows) + atoll(w[3]) / (long long)sizeof(float);
        bench_run(run_sum, d, 1, number(1), 1, NULL);
    } else {
        bench_error("unknown command");
    }
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "build")) return build(argv + 2);
    if (argc < 5 || strcmp(argv[1], "serve")) {
        fprintf(stderr, "usage: hnsw_bench build BASE DIM INDEX THREADS | serve BASE DIM QUERY [INDEX]\n");
        return 2;
    }
    Driver d((size_t)atoi(argv[3]));
    d.base = map_floats(argv[2], d.dim, &d.n);
    d.query = map_floats(argv[4], d.dim, &d.n_queries);
    if (argc > 5) d.graph.reset(new Graph(&d.space, argv[5]));
    bench_serve(handle, &d);
    return 0;
}
