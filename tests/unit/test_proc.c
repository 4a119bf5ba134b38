/* Small text files and /proc. */
#include "test.h"

#include "util/proc.h"

#include <stdio.h>
#include <unistd.h>

TEST(text_is_cut_and_ended) {
    char path[] = "/tmp/test_proc.XXXXXX", text[8];
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10);
    close(fd);
    CHECK(text_read(path, text, sizeof text) == 7 && !strcmp(text, "0123456"));
    CHECK(!truncate(path, 0) && text_read(path, text, sizeof text) == 0 && !text[0]);
    remove(path);
    strcpy(text, "left");
    CHECK(text_read(path, text, sizeof text) == 0 && !text[0]);
    CHECK(text_read("/tmp", text, sizeof text) == 0 && !text[0]);
}

TEST(fields) {
    static const char stat[] = "12 (a) b) c) S 34 56\n";
    char text[1024], number[16];
    CHECK(*proc_field(stat, 3) == 'S' && !strncmp(proc_field(stat, 4), "34 ", 3));
    CHECK(!strcmp(proc_field(stat, 5), "56\n") && !proc_field(stat, 6));
    CHECK(!proc_field("", 3) && !proc_field("no name", 3) && !proc_field("1 (x)", 3));
    CHECK(proc_read((int)getpid(), "stat", text, sizeof text) > 20);
    snprintf(number, sizeof number, "%d ", (int)getppid());
    CHECK(*proc_field(text, 3) == 'R' && !strncmp(proc_field(text, 4), number, strlen(number)));
    CHECK(proc_read(-5, "stat", text, sizeof text) == 0 && !proc_field(text, 3));
}
