// Lucene's driver: an index of id and body (EnglishAnalyzer, both stored), BM25 top 10 of any of a query's terms.
//
//   LuceneBench index DIR DOCS.tsv THREADS   makes the index, prints its times as JSON
//   LuceneBench serve DIR                    the line protocol of bench.h:
//     specs NAME FILE                        a query a line
//     round NAME THREADS PASSES [docs]       docs: also reads the stored fields of the hits
//     scores NAME                            the scores of each query's hits, for a look at the answers
//
// DOCS.tsv: id, tab, text, a line a document.
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.apache.lucene.analysis.tokenattributes.TermToBytesRefAttribute;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.StringField;
import org.apache.lucene.document.TextField;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.search.TopDocs;
import org.apache.lucene.store.MMapDirectory;
import org.apache.lucene.util.BytesRef;

public class LuceneBench {
    static final Analyzer analyzer = new EnglishAnalyzer();

    public static void main(String[] args) throws Exception {
        if (args[0].equals("index"))
            index(Paths.get(args[1]), Paths.get(args[2]), Integer.parseInt(args[3]));
        else
            new LuceneBench(Paths.get(args[1])).serve();
    }

    // ---- indexing ----

    static void addAll(IndexWriter writer, List<String> lines, AtomicInteger next) {
        Field id = new StringField("id", "", Field.Store.YES), body = new TextField("body", "", Field.Store.YES);
        Document doc = new Document();
        doc.add(id);
        doc.add(body);
        try {
            for (int i; (i = next.getAndIncrement()) < lines.size();) {
                String line = lines.get(i);
                int tab = line.indexOf('\t');
                id.setStringValue(line.substring(0, tab));
                body.setStringValue(line.substring(tab + 1));
                writer.addDocument(doc);
            }
        } catch (IOException e) {
            throw new RuntimeException(e);
        }
    }

    static void index(Path dir, Path docs, int threads) throws Exception {
        List<String> lines = Files.readAllLines(docs, StandardCharsets.UTF_8);
        IndexWriterConfig config = new IndexWriterConfig(analyzer);
        config.setRAMBufferSizeMB(1024);
        config.setOpenMode(IndexWriterConfig.OpenMode.CREATE);
        config.setUseCompoundFile(false);
        long before = os.getProcessCpuTime();
        long start = System.nanoTime();
        IndexWriter writer = new IndexWriter(new MMapDirectory(dir), config);
        AtomicInteger next = new AtomicInteger();
        Thread[] workers = new Thread[threads];
        for (int t = 0; t < threads; t++) {
            workers[t] = new Thread(() -> addAll(writer, lines, next));
            workers[t].start();
        }
        for (Thread t : workers) t.join();
        writer.commit();
        double committed = (System.nanoTime() - start) / 1e9, cpu = (os.getProcessCpuTime() - before) / 1e9;
        writer.forceMerge(1);
        writer.commit();
        double merged = (System.nanoTime() - start) / 1e9;
        writer.close();
        System.out.printf("{\"documents\":%d,\"cpu_seconds\":%.4f,\"committed\":%.4f,\"merged\":%.4f}%n", lines.size(), cpu,
            committed, merged);
    }

    // ---- queries ----

    static final com.sun.management.OperatingSystemMXBean os =
        (com.sun.management.OperatingSystemMXBean) java.lang.management.ManagementFactory.getOperatingSystemMXBean();
    final IndexSearcher searcher;
    final Map<String, List<String>> sets = new HashMap<>();

    LuceneBench(Path dir) throws IOException {
        searcher = new IndexSearcher(DirectoryReader.open(new MMapDirectory(dir)));
    }

    static Query parse(String text) throws IOException {
        BooleanQuery.Builder b = new BooleanQuery.Builder();
        try (TokenStream tokens = analyzer.tokenStream("body", text)) {
            TermToBytesRefAttribute term = tokens.getAttribute(TermToBytesRefAttribute.class);
            tokens.reset();
            while (tokens.incrementToken())
                b.add(new TermQuery(new Term("body", BytesRef.deepCopyOf(term.getBytesRef()))), BooleanClause.Occur.SHOULD);
            tokens.end();
        }
        return b.build();
    }

    long ask(String text, boolean docs) throws IOException {
        TopDocs top = searcher.search(parse(text), 10);
        long sum = 0;
        for (ScoreDoc hit : top.scoreDocs)
            sum += docs ? searcher.doc(hit.doc).get("body").length() : hit.doc;
        return sum;
    }

    String round(List<String> queries, int threads, int passes, boolean docs) throws Exception {
        int n = queries.size() * passes;
        long[] ns = new long[n];
        AtomicInteger next = new AtomicInteger();
        AtomicLong sum = new AtomicLong();
        Runnable work = () -> {
            try {
                long s = 0;
                for (int i; (i = next.getAndIncrement()) < n;) {
                    long start = System.nanoTime();
                    s += ask(queries.get(i % queries.size()), docs);
                    ns[i] = System.nanoTime() - start;
                }
                sum.addAndGet(s);
            } catch (IOException e) {
                throw new RuntimeException(e);
            }
        };
        long cpu = os.getProcessCpuTime();
        long start = System.nanoTime();
        if (threads == 1) {
            work.run();
        } else {
            Thread[] workers = new Thread[threads];
            for (int t = 0; t < threads; t++) (workers[t] = new Thread(work)).start();
            for (Thread t : workers) t.join();
        }
        double seconds = (System.nanoTime() - start) / 1e9;
        cpu = os.getProcessCpuTime() - cpu;
        Arrays.sort(ns);
        return String.format(
            "{\"n\":%d,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"qps\":%.2f,\"mean_us\":%.3f,\"p50_us\":%.3f,\"p99_us\":%.3f,\"sum\":%d}", n,
            seconds, cpu / 1e9, n / seconds, Arrays.stream(ns).sum() / 1e3 / n, ns[n / 2] / 1e3, ns[(int) (n * 99L / 100)] / 1e3,
            sum.get());
    }

    String scores(List<String> queries) throws IOException {
        StringBuilder out = new StringBuilder("{\"scores\":[");
        for (int i = 0; i < queries.size(); i++) {
            out.append(i == 0 ? "[" : ",[");
            ScoreDoc[] hits = searcher.search(parse(queries.get(i)), 10).scoreDocs;
            for (int k = 0; k < hits.length; k++) out.append(k == 0 ? "" : ",").append((double) hits[k].score);
            out.append(']');
        }
        return out.append("]}").toString();
    }

    String answer(String[] w) throws Exception {
        switch (w[0]) {
        case "specs":
            sets.put(w[1], Files.readAllLines(Paths.get(w[2]), StandardCharsets.UTF_8));
            return "{\"n\":" + sets.get(w[1]).size() + "}";
        case "round":
            return round(sets.get(w[1]), Integer.parseInt(w[2]), Integer.parseInt(w[3]), w.length > 4);
        case "scores":
            return scores(sets.get(w[1]));
        default:
            return "{\"error\":\"unknown command\"}";
        }
    }

    void serve() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null;) {
            try {
                System.out.println(answer(line.split("\t")));
            } catch (Exception e) {
                System.out.println("{\"error\":\"" + e.toString().replace('"', ' ').replace('\n', ' ') + "\"}");
            }
            System.out.flush();
        }
    }
}
