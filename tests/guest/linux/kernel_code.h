/*
 * kernel_code: makes Linux write code and run it, and prints what came of it.
 *
 *   kernel_code           as a program of any Linux, without privileges: classic BPF filters, compiled by the kernel's
 *                         JIT. What it prints is a function of the kernel's documented semantics alone, so that the
 *                         host's kernel judges the guest's.
 *   kernel_code as init   (process 1) also eBPF, static keys, the function tracer and kprobes; then power off
 *
 * Each line printed is of one write. What must not be is a line "kernel_code: FAILED ...".
 */
#ifndef HW_TESTS_GUEST_LINUX_KERNEL_CODE_H
#define HW_TESTS_GUEST_LINUX_KERNEL_CODE_H

#include <stdint.h>

/* Prints a line of at most 1,023 bytes, and the newline. */
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);

/* Says "FAILED", the text and errno's; nothing ends. */
__attribute__((format(printf, 1, 2))) void failed(const char *fmt, ...);

/* Random, the same in every run: below bound, which is at least 1. */
uint32_t pick(uint32_t bound);
uint32_t random_u32(void);

void classic_filters(void);  /* socket filters and seccomp: cBPF */
void extended_filters(void); /* eBPF programs, against the same evaluated here */
void patched_branches(void); /* static keys, by sysctl */
void traced_functions(void); /* ftrace's call sites */
void probed_functions(void); /* kprobes: int3, then a jump to a detour */

#endif
