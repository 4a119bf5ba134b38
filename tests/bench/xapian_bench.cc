// Xapian's driver: English stemming of every word, BM25 top 10 of any of a query's words.
//
//   xapian_bench index DB DOCS.tsv     prints its times as JSON
//   xapian_bench serve DB              the line protocol of bench.h: specs NAME FILE; round NAME THREADS
//   PASSES
#include <xapian.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bench.h"

struct Driver {
    std::string path;
    std::map<std::string, std::vector<std::string>> sets;
    std::vector<std::string> *set = nullptr;
    std::unique_ptr<Xapian::Database> db[BENCH_MAX_THREADS];
};

static int make_index(const char *path, const char *docs) {
    setenv("XAPIAN_FLUSH_THRESHOLD", "100000", 1);
    uint64_t start = now_ns(), n = 0;
    {
        Xapian::WritableDatabase db(path, Xapian::DB_CREATE_OR_OVERWRITE);
        Xapian::TermGenerator words;
        words.set_stemmer(Xapian::Stem("english"));
        words.set_stemming_strategy(Xapian::TermGenerator::STEM_ALL);
        std::ifstream in(docs);
        for (std::string line; std::getline(in, line); n++) {
            size_t tab = line.find('\t');
            Xapian::Document doc;
            words.set_document(doc);
            words.index_text(line.substr(tab + 1));
            doc.set_data(line);
            db.add_document(doc);
        }
        db.commit();
    }
    double committed = (double)(now_ns() - start) / 1e9;
    double cpu = cpu_seconds();
    printf("{\"documents\":%llu,\"cpu_seconds\":%.4f,\"committed\":%.4f,\"merged\":%.4f}\n",
           (unsigned long long)n, cpu, committed, committed);
    return 0;
}

static int ask(void *ctx, unsigned thread, uint32_t item) {
    Driver *d = (Driver *)ctx;
    if (!d->db[thread]) d->db[thread].reset(new Xapian::Database(d->path));
    Xapian::Stem stem("english");
    std::vector<std::string> terms;
    std::istringstream words((*d->set)[item]);
    for (std::string w; words >> w;) terms.push_back(stem(w));
    Xapian::Enquire enquire(*d->db[thread]);
    enquire.set_query(Xapian::Query(Xapian::Query::OP_OR, terms.begin(), terms.end()));
    return enquire.get_mset(0, 10).size() > 10;
}

static void handle(void *ctx, char **w, int n) {
    Driver *d = (Driver *)ctx;
    try {
        if (!strcmp(w[0], "specs") && n > 2) {
            std::ifstream in(w[2]);
            auto &set = d->sets[w[1]];
            for (std::string line; std::getline(in, line);) set.push_back(line);
            printf("{\"n\":%zu}\n", set.size());
        } else if (!strcmp(w[0], "round") && n > 3) {
            d->set = &d->sets[w[1]];
            bench_run(ask, d, (uint32_t)d->set->size(), (uint32_t)atoi(w[3]), (unsigned)atoi(w[2]), NULL);
        } else {
            bench_error("unknown command");
        }
    } catch (const Xapian::Error &e) {
        bench_error(e.get_msg().c_str());
    }
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "index")) return make_index(argv[2], argv[3]);
    if (argc != 3) return 2;
    Driver d;
    d.path = argv[2];
    bench_serve(handle, &d);
    return 0;
}
