/*
 * Kernel code that is patched while it may run: branches on static keys (Linux, Documentation/staging/static-keys.rst),
 * ftrace's call sites (Documentation/trace/ftrace.rst) and kprobes (Documentation/trace/kprobes.rst). Each is judged by
 * what the kernel then does.
 */
#include "kernel_code.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing/"
#define PROBES "/sys/kernel/debug/kprobes/list"
#define MAY_JUMP "/proc/sys/debug/kprobes-optimization"
#define FUNCTION "__x64_sys_umask"

enum {
    TOGGLES = 40,
    CALLS = 50,
    CALL_SITE = 5, /* bytes of ftrace's call at the function's entry */
    BODY = 40,     /* bytes of it that every call runs, at least */
};

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_APPEND);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static void must_write(const char *path, const char *text)
{
    if (!write_file(path, text))
        failed("\"%s\" to %s", text, path);
}

/* Lines of a file that hold the word. */
static unsigned count_lines(const char *path, const char *word)
{
    char line[512];
    unsigned found = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        failed("%s", path);
    while (f && fgets(line, sizeof(line), f))
        found += strstr(line, word) != NULL;
    if (f)
        fclose(f);
    return found;
}

static void call_function(void)
{
    for (int i = 0; i < CALLS; i++)
        umask(022);
}

static void expect_count(const char *what, unsigned got, unsigned wanted)
{
    if (got == wanted)
        say("%s: %u", what, got);
    else
        failed("%s: %u instead of %u", what, got, wanted);
}

/* While the key is on, the scheduler's statistics are counted, and listed with a task's others. */
void patched_branches(void)
{
    unsigned right = 0;
    for (int i = 0; i < TOGGLES; i++) {
        bool on = i % 2 == 0;
        must_write("/proc/sys/kernel/sched_schedstats", on ? "1" : "0");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        right += (count_lines("/proc/self/sched", "wait_sum") > 0) == on;
    }
    expect_count("static keys: right after a change", right, TOGGLES);
}

void traced_functions(void)
{
    must_write(TRACING "set_ftrace_filter", FUNCTION);
    must_write(TRACING "current_tracer", "function");
    call_function();
    must_write(TRACING "tracing_on", "0");
    expect_count("ftrace: calls of one function", count_lines(TRACING "trace", FUNCTION " <-"), CALLS);
    must_write(TRACING "current_tracer", "nop");
    call_function();

    /* Every function there is. */
    must_write(TRACING "set_ftrace_filter", "");
    must_write(TRACING "current_tracer", "function");
    must_write(TRACING "tracing_on", "1");
    call_function();
    must_write(TRACING "tracing_on", "0");
    expect_count("ftrace: calls among all functions", count_lines(TRACING "trace", FUNCTION " <-"), CALLS);
    must_write(TRACING "current_tracer", "nop");
    must_write(TRACING "tracing_on", "1");
}

/* Hits of all probes; the profile's lines are "name hits misses". */
static unsigned count_hits(void)
{
    char line[512];
    unsigned hits, sum = 0;
    FILE *f = fopen(TRACING "kprobe_profile", "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "%*s %u", &hits) == 1)
            sum += hits;
    if (f)
        fclose(f);
    return sum;
}

/*
 * At a function's entry (which ftrace's call site serves), at its return, and at every instruction of its body that the
 * kernel lets us: an int3, or a jump to a copy of what it displaces, once the kernel may and finds the time.
 */
void probed_functions(void)
{
    char event[128];
    unsigned probes = 2;
    must_write(TRACING "kprobe_events", "p:entry " FUNCTION);
    must_write(TRACING "kprobe_events", "r:return " FUNCTION);
    for (int offset = CALL_SITE; offset < BODY; offset++) { /* refused in the middle of an instruction */
        snprintf(event, sizeof(event), "p:at_%d " FUNCTION "+%d", offset, offset);
        probes += write_file(TRACING "kprobe_events", event);
    }
    must_write(MAY_JUMP, "0");
    must_write(TRACING "events/kprobes/enable", "1");
    call_function();
    unsigned before = count_lines(PROBES, "[OPTIMIZED]");
    must_write(MAY_JUMP, "1");
    nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
    unsigned after = count_lines(PROBES, "[OPTIMIZED]");
    call_function();
    must_write(TRACING "events/kprobes/enable", "0");
    call_function();
    if (before || !after)
        failed("kprobes: %u are jumps at once, %u later", before, after);
    else
        say("kprobes: %u of %u became jumps", after, probes);
    expect_count("kprobes: hits", count_hits(), probes * 2 * CALLS);
}
