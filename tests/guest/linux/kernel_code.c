/* kernel_code: see kernel_code.h. */
#include "kernel_code.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

void say(const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(line, sizeof(line) - 1, fmt, args);
    va_end(args);
    if (len > (int)sizeof(line) - 2)
        len = (int)sizeof(line) - 2;
    line[len] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)len + 1) < 0)
        _exit(1);
}

void failed(const char *fmt, ...)
{
    int error = errno;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    say("kernel_code: FAILED %s: %s", text, strerror(error));
}

/* splitmix64's step and finish. */
uint32_t random_u32(void)
{
    static uint64_t state = 0x68797065722d7769;
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (uint32_t)(z >> 32);
}

uint32_t pick(uint32_t bound) { return random_u32() % bound; }

static void mount_at(const char *type, const char *where)
{
    if (mount(type, where, type, 0, NULL))
        failed("mount %s", where);
}

int main(void)
{
    classic_filters();
    if (getpid() != 1)
        return 0;
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    mount_at("debugfs", "/sys/kernel/debug");
    mount_at("tracefs", "/sys/kernel/tracing");
    extended_filters();
    patched_branches();
    traced_functions();
    probed_functions();
    say("kernel_code: end");
    reboot(RB_POWER_OFF);
    failed("power off");
    return 1;
}
