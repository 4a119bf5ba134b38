# ldbfs: one non-recursive Makefile.
#
#   make                 the release binary, build/release/ldbfs
#   make B=debug|asan|tsan|fuzz|release    another variant, in build/$(B)/
#   make check           layers, style and the unit and contract tests of the variant
#   make bench           the benchmark table (BENCH="text mount": some rows; bench-quick: in minutes)
#   make fuzz            each fuzz target of tests/fuzz for FUZZ_SECONDS (needs clang)
#   make install         DESTDIR= PREFIX=/usr/local
#   V=1                  show the commands
#
# Nothing is registered by hand: a new src/**/*.c joins the library, a new tests/unit/test_*.c or
# tests/contract/test_*.c becomes a test program of that name.

B      ?= release
ifeq ($(B),fuzz)
CC     := clang
endif
CC     ?= cc
PREFIX ?= /usr/local
V      ?= 0
VERSION := 0.1.0

O      := build/$(B)
PKGS   := fuse3 libcurl openssl jansson libzstd sqlite3 icu-uc icu-i18n zlib
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   := $(shell pkg-config --libs $(PKGS)) -lmecab -lstemmer -lm -lpthread

WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wno-unused-parameter
ifndef NO_WERROR
WARN   += -Werror
endif

OPT_release := -O3 -g -fno-plt
OPT_debug   := -O0 -g3
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_tsan    := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
OPT_fuzz    := -O1 -g -fsanitize=address,undefined,fuzzer-no-link -fno-omit-frame-pointer

# gcc optimises the release binary as a whole (with -O3 a tenth of a short query). Test programs, which are many, take the
# machine code that the objects have beside that.
ifeq ($(B),release)
ifeq ($(findstring __clang__,$(shell $(CC) -dM -E - </dev/null)),)
WHOLE     := -flto=auto -ffat-lto-objects
NOT_WHOLE := -fno-lto
endif
endif

CFLAGS_ALL   = -std=gnu11 -ffp-contract=off $(WARN) $(OPT_$(B)) $(WHOLE) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DLDBFS_VERSION='"$(VERSION)"' -Isrc -Isrc/engine $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL  = $(OPT_$(B)) $(if $(WHOLE),$(WHOLE) -ffp-contract=off $(CFLAGS)) $(LDFLAGS)

SRC    := $(sort $(wildcard src/util/*.c src/engine/*.c src/engine/*/*.c src/fs/*.c))
MAIN   := $(sort $(wildcard src/*.c))
TESTS  := $(sort $(wildcard tests/unit/test_*.c tests/contract/test_*.c))
OBJ    := $(SRC:%.c=$(O)/%.o)
MAINO  := $(MAIN:%.c=$(O)/%.o)
TESTB  := $(TESTS:%.c=$(O)/%)

Q_0 := @
Q   := $(Q_$(V))
say  = @$(if $(filter 0,$(V)),printf '  %-5s %s\n' $(1) $(2);) :

.DELETE_ON_ERROR:
# Keep the objects of test programs.
.SECONDARY:

.PHONY: all check tests bench bench-quick bench-ours fuzz fuzzers clean install FORCE
all: $(O)/ldbfs

$(O)/ldbfs: $(MAINO) $(O)/libldbfs.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(MAINO) $(O)/libldbfs.a $(PKG_LIBS)

$(O)/libldbfs.a: $(OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(OBJ)

$(O)/%.o: %.c $(O)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(O)/tests/unit/%.o $(O)/tests/contract/%.o: private WHOLE :=
$(O)/tests/%: $(O)/tests/%.o $(O)/libldbfs.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $(NOT_WHOLE) -o $@ $< $(O)/libldbfs.a $(PKG_LIBS)

tests: $(TESTB)

# Rebuild when the flags change.
$(O)/flags: FORCE
	@mkdir -p $(O); echo '$(CC) $(CFLAGS_ALL)' | cmp -s - $@ || echo '$(CC) $(CFLAGS_ALL)' > $@

check: all tests
	scripts/check-layers
	scripts/check-style
	@for t in $(TESTB); do $$t || exit 1; done

bench:
	scripts/bench $(BENCH)
bench-quick:
	scripts/bench --quick $(BENCH)

# The benchmark's drivers: C ones of ours with the variant's flags, peers' with the best the machine has.
BENCHD := build/bench
BENCH_NATIVE := -O3 -march=native -g -D_GNU_SOURCE
bench-ours: all $(BENCHD)/engine_bench $(BENCHD)/mount_bench $(BENCHD)/vecdata
$(BENCHD)/engine_bench: $(O)/tests/bench/engine_bench.o $(O)/libldbfs.a
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $< $(O)/libldbfs.a $(PKG_LIBS)
$(BENCHD)/%: tests/bench/%.c tests/bench/bench.h
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(BENCH_NATIVE) -std=gnu11 -Wall -Wextra -o $@ $< $(BENCH_LIBS_$*) -lm -lpthread
$(BENCHD)/%: tests/bench/%.cc tests/bench/bench.h
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(BENCH_NATIVE) $(BENCH_FLAGS_$*) -o $@ $< $(BENCH_LIBS_$*) -lpthread
$(BENCHD)/LuceneBench.class: tests/bench/LuceneBench.java
	$(call say,JAVAC,$<)
	$(Q)mkdir -p $(@D) && javac -cp '/usr/share/java/*' -d $(@D) $<
BENCH_LIBS_vecdata     := -lz
BENCH_LIBS_fts_bench   := -lsqlite3
BENCH_LIBS_xapian_bench := -lxapian
BENCH_LIBS_static_fs   := $(shell pkg-config --cflags --libs fuse3)
BENCH_FLAGS_faiss_bench := -fopenmp
BENCH_LIBS_faiss_bench := -lfaiss -llapack -lblas

FUZZ_SECONDS ?= 60
FUZZB  := $(patsubst %.c,build/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
build/fuzz/tests/fuzz/%: build/fuzz/tests/fuzz/%.o build/fuzz/libldbfs.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $< build/fuzz/libldbfs.a $(PKG_LIBS)
fuzzers: $(FUZZB)
fuzz:
	+$(MAKE) --no-print-directory B=fuzz fuzzers
	@for t in $(FUZZB); do n=$$(basename $$t); mkdir -p build/fuzz/corpus/$$n; \
	  $$t -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/$$n- build/fuzz/corpus/$$n \
	    $$(ls -d tests/golden/$${n#fuzz_} 2>/dev/null) || exit 1; done

SHARE := $(DESTDIR)$(PREFIX)/share
install: all
	install -D -m 755 $(O)/ldbfs $(DESTDIR)$(PREFIX)/bin/ldbfs
	install -D -m 644 docs/ldbfs.1 $(SHARE)/man/man1/ldbfs.1
	install -D -m 644 scripts/dist/ldbfs.bash-completion $(SHARE)/bash-completion/completions/ldbfs
	install -D -m 644 scripts/dist/ldbfs@.service $(DESTDIR)$(PREFIX)/lib/systemd/user/ldbfs@.service
	install -D -m 755 scripts/dist/mount.fuse.ldbfs $(DESTDIR)$(PREFIX)/sbin/mount.fuse.ldbfs

clean:
	rm -rf build

-include $(OBJ:.o=.d) $(MAINO:.o=.d) $(TESTB:=.d) $(FUZZB:=.d) $(O)/tests/bench/engine_bench.d
