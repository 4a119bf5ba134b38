/* The smallest test frame: TEST(name) { ... CHECK(x); } ... a main that TEST_MAIN makes runs them all and
 * ends with "N passed, N failed". */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
};
static struct test_case *test_first, **test_last = &test_first;
static int test_failures;

#define TEST(name)                                                                                           \
    static void test_##name(void);                                                                           \
    __attribute__((constructor)) static void register_##name(void) {                                         \
        static struct test_case c = {#name, test_##name, NULL};                                              \
        *test_last = &c;                                                                                     \
        test_last = &c.next;                                                                                 \
    }                                                                                                        \
    static void test_##name(void)

/* Fails the test and leaves it. */
#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #cond);                         \
            test_failures++;                                                                                 \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)
/* As CHECK, for a call that gives 0 or a negative error and fills `err`. */
#define CHECK_OK(call)                                                                                       \
    do {                                                                                                     \
        int check_r = (call);                                                                                \
        if (check_r) {                                                                                       \
            fprintf(stderr, "%s:%d: %s = %d: %s\n", __FILE__, __LINE__, #call, check_r, err.text);           \
            test_failures++;                                                                                 \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)

int main(int argc, char **argv) {
    int passed = 0, failed = 0;
    for (struct test_case *c = test_first; c; c = c->next) {
        if (argc > 1 && !strstr(c->name, argv[1])) continue;
        int before = test_failures;
        c->run();
        if (test_failures == before)
            passed++;
        else {
            failed++;
            fprintf(stderr, "FAILED %s\n", c->name);
        }
    }
    const char *base = strrchr(argv[0], '/');
    printf("%s: %d passed, %d failed\n", base ? base + 1 : argv[0], passed, failed);
    return failed ? 1 : 0;
}
