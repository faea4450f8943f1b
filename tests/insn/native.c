/* tests/insn/native.c: executes one instruction on the host CPU.
 *
 * The whole user state of a case is loaded by the kernel: rt_sigreturn from a hand-made signal frame, with EFLAGS.TF
 * set. After one instruction (whatever it is: a branch, POPF, one iteration of a REP) the single-step trap brings a
 * SIGTRAP, a fault brings its own signal, and the frame the kernel builds then is the result. No instruction is
 * patched and nothing is emulated; code of 32 bits needs only another CS in the frame.
 *
 * The handler runs on its own stack and first of all takes back FS, because the guest's may be anything and libc's
 * thread data hangs on it. It leaves by loading the stack pointer saved before, not by returning. */
#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/insn/insn_test.h"

enum {
    STACK_LEN = 256 * 1024,
    XSTATE_MAX = 16384,
    XSTATE_BV = 512, /* offset of the XSAVE header */
    SW_EXTENDED_SIZE = 468,
    SW_XFEATURES = 472, /* struct _fpx_sw_bytes at offset 464 of the image */
    HWCAP2_FSGSBASE_BIT = 2,
    SI_TRAP_TRACE = 2, /* si_code of a single step */
};

/* Read and written by the assembly below; offsets are fixed there. */
struct native_switch {
    uint64_t host_rsp; /* 0 */
    uint64_t host_fs;  /* 8 */
    uint64_t fs_base;  /* 16 */
    uint64_t gs_base;  /* 24 */
    uint64_t flags;    /* 32: flags that sigreturn does not load: NT, ID */
    uint16_t sel[6];   /* 40: enum segreg order */
    uint16_t pad[2];
    uint64_t armed; /* 56: a case is running, so a signal is its end */
};
extern struct native_switch native_sw;
struct native_switch native_sw;

void native_enter(void *uc);
void native_entry(int sig, siginfo_t *si, void *uc);
void native_caught(int sig, const siginfo_t *si, const void *uc);
void native_foreign(int sig, siginfo_t *si, void *uc);

__asm__(".text\n"
        ".globl native_enter\n"
        ".type native_enter,@function\n"
        "native_enter:\n"
        "    push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "    lea native_sw(%rip), %rax\n"
        "    mov %rsp, (%rax)\n"
        "    rdfsbase %rcx\n"
        "    mov %rcx, 8(%rax)\n"
        "    pushq 32(%rax)\n"
        "    movw 40(%rax), %es\n"
        "    movw 46(%rax), %ds\n"
        "    movw 48(%rax), %fs\n"
        "    movw 50(%rax), %gs\n"
        "    mov 16(%rax), %rcx\n"
        "    wrfsbase %rcx\n"
        "    mov 24(%rax), %rcx\n"
        "    wrgsbase %rcx\n"
        "    movq $1, 56(%rax)\n"
        "    popfq\n"
        "    mov %rdi, %rsp\n"
        "    mov $15, %eax\n" /* rt_sigreturn */
        "    syscall\n"
        ".globl native_entry\n"
        ".type native_entry,@function\n"
        "native_entry:\n"
        "    cmpq $0, native_sw+56(%rip)\n"
        "    je native_foreign\n"
        "    pushfq\n"
        "    andq $~0x44000, (%rsp)\n" /* AC and NT: the kernel clears only TF, DF and RF */
        "    popfq\n"
        "    lea native_sw(%rip), %rax\n"
        "    mov %es, 40(%rax)\n"
        "    mov %ds, 46(%rax)\n"
        "    mov %fs, 48(%rax)\n"
        "    mov %gs, 50(%rax)\n"
        "    rdfsbase %rcx\n"
        "    mov %rcx, 16(%rax)\n"
        "    rdgsbase %rcx\n"
        "    mov %rcx, 24(%rax)\n"
        "    xor %ecx, %ecx\n"
        "    mov %ecx, %es\n mov %ecx, %ds\n mov %ecx, %fs\n mov %ecx, %gs\n"
        "    mov 8(%rax), %rcx\n"
        "    wrfsbase %rcx\n"
        "    sub $8, %rsp\n"
        "    call native_caught\n"
        "    lea native_sw(%rip), %rax\n"
        "    mov (%rax), %rsp\n"
        "    pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "    ret\n");

static ucontext_t frame;
static uint8_t xstate[XSTATE_MAX] __attribute__((aligned(64)));
static uint32_t ymmh_offset;
static struct insn_state *result;
static struct sigaction replaced[32];
static uint8_t *data_alias, *code_alias; /* writable mappings of the pages a case sees */

uint8_t *native_data(void) { return data_alias; }

static void take_xstate(struct insn_state *s, const uint8_t *x)
{
    memcpy(s->fx, x, 464);
    memset(s->fx + 464, 0, sizeof(s->fx) - 464);
    if (get_le64(x + XSTATE_BV) & 4)
        memcpy(s->ymmh, x + ymmh_offset, sizeof(s->ymmh));
    else
        memset(s->ymmh, 0, sizeof(s->ymmh));
}

static const int gpr_slot[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void take_segments(struct insn_state *s, uint64_t csgsfs)
{
    memcpy(s->sel, native_sw.sel, sizeof(s->sel));
    s->sel[S_CS] = (uint16_t)csgsfs;
    s->sel[S_SS] = (uint16_t)(csgsfs >> 48);
    s->fs_base = native_sw.fs_base;
    s->gs_base = native_sw.gs_base;
}

/* A signal while no case runs: the engine's, whose handler we replaced, or an error. */
void native_foreign(int sig, siginfo_t *si, void *ucp)
{
    const struct sigaction *old = &replaced[sig];
    if ((old->sa_flags & SA_SIGINFO) && old->sa_sigaction) {
        old->sa_sigaction(sig, si, ucp);
        return;
    }
    const ucontext_t *uc = ucp;
    fprintf(stderr, "insn_test: signal %d at %#llx, address %p\n", sig, uc->uc_mcontext.gregs[REG_RIP], si->si_addr);
    signal(sig, SIG_DFL); /* taken when the instruction faults again */
}

/* Called on the alternate stack with the host's FS; returns into native_enter()'s caller. */
void native_caught(int sig, const siginfo_t *si, const void *ucp)
{
    const ucontext_t *uc = ucp;
    const greg_t *g = uc->uc_mcontext.gregs;
    native_sw.armed = 0;
    struct insn_state *s = result;
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = (uint64_t)g[gpr_slot[i]];
    s->rip = (uint64_t)g[REG_RIP];
    s->rflags = (uint64_t)g[REG_EFL];
    take_segments(s, (uint64_t)g[REG_CSGSFS]);
    take_xstate(s, (const uint8_t *)uc->uc_mcontext.fpregs);
    /* A host that is itself a guest sometimes loses DR6.BS, and with it this code; only INT1 traps by itself. */
    uint64_t last = s->rip - 1 - CODE_BASE;
    bool int1 = last < CODE_LEN && code_alias[last] == 0xf1;
    bool stepped = sig == SIGTRAP && g[REG_TRAPNO] == 1 && (si->si_code == SI_TRAP_TRACE || !int1);
    s->vector = stepped ? -1 : (int)g[REG_TRAPNO];
    s->error = vector_has_error(s->vector) ? (uint32_t)g[REG_ERR] : 0;
    s->cr2 = s->vector == 14 ? (uint64_t)g[REG_CR2] : 0;
}

static void run_from(const struct insn_state *in, struct insn_state *out)
{
    greg_t *g = frame.uc_mcontext.gregs;
    for (unsigned i = 0; i < 16; i++)
        g[gpr_slot[i]] = (greg_t)in->r[i];
    g[REG_RIP] = (greg_t)in->rip;
    g[REG_EFL] = (greg_t)(in->rflags | FL_TF);
    g[REG_CSGSFS] = (greg_t)(in->sel[S_CS] | (uint64_t)in->sel[S_SS] << 48);
    memcpy(xstate, in->fx, 416); /* up to and including XMM15; what follows is the kernel's */
    put_le64(xstate + XSTATE_BV, 7);
    memcpy(xstate + ymmh_offset, in->ymmh, sizeof(in->ymmh));
    memcpy(native_sw.sel, in->sel, sizeof(in->sel));
    native_sw.fs_base = in->fs_base;
    native_sw.gs_base = in->gs_base;
    native_sw.flags = 0x202 | (in->rflags & (FL_NT | FL_ID));
    result = out;
    native_enter(&frame);
}

/* A gather that faults after it has gathered something takes a pending trap, ours, first and would be continued
 * afterwards (SDM vol. 2, VPGATHERDD). */
static bool gather_interrupted(const struct test_case *tc, const struct insn_state *out)
{
    return out->vector < 0 && out->rip == tc->in.rip && tc->zi.meta.category == ZYDIS_CATEGORY_AVX2GATHER;
}

void native_run(const struct test_case *tc, struct insn_state *out)
{
    size_t at = tc->code_addr - CODE_BASE;
    memcpy(code_alias + at, tc->code, MIN(sizeof(tc->code), CODE_LEN - at));
    run_from(&tc->in, out);
    for (unsigned i = 0; i < 8 && gather_interrupted(tc, out); i++) {
        struct insn_state next = *out;
        next.rflags &= ~(uint64_t)(FL_TF | FL_RF);
        run_from(&next, out);
    }
}

/* The first signal of all shows what frames look like here; it is the template of those we make. */
static void template_handler(int sig, siginfo_t *si, void *ucp)
{
    (void)sig;
    (void)si;
    const ucontext_t *uc = ucp;
    const uint8_t *x = (const uint8_t *)uc->uc_mcontext.fpregs;
    memcpy(&frame, uc, sizeof(frame));
    uint32_t len = get_le32(x + SW_EXTENDED_SIZE);
    if (get_le32(x + 464) != 0x46505853 /* FP_XSTATE_MAGIC1 */ || len > sizeof(xstate))
        return; /* native_init() sees that frame.uc_mcontext.fpregs is not ours */
    memcpy(xstate, x, len);
    frame.uc_mcontext.fpregs = (void *)xstate;
}

static const char *make_template(void)
{
    struct sigaction sa = {.sa_sigaction = template_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
    if (frame.uc_mcontext.fpregs != (void *)xstate)
        return "no XSAVE state in signal frames";
    uint32_t a = 0xd, c = 2, d;
    __asm__("cpuid" : "+a"(a), "=b"(ymmh_offset), "+c"(c), "=d"(d));
    return ymmh_offset >= 576 && ymmh_offset < 4096 ? NULL : "no AVX state";
}

/* Guest memory has two mappings: the one a case sees, and a writable one for us. */
static uint8_t *map_twice(uint64_t base, size_t len, int prot)
{
    int fd = memfd_create("insn", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
        return NULL;
    void *at = mmap((void *)(uintptr_t)base, len, prot, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, 0);
    void *alias = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    return at == (void *)(uintptr_t)base && alias != MAP_FAILED ? alias : NULL;
}

static const char *map_memory(void)
{
    data_alias = map_twice(DATA_BASE, DATA_LEN, PROT_READ | PROT_WRITE);
    code_alias = map_twice(CODE_BASE, CODE_LEN, PROT_READ | PROT_EXEC);
    if (!data_alias || !code_alias)
        return "the addresses of the test are taken, or memory is short";
    void *ro = (void *)(uintptr_t)(DATA_BASE + DATA_RO_PAGE * PAGE_SIZE);
    for (size_t i = 0; i < DATA_LEN; i += PAGE_SIZE) /* present before one becomes read-only: its faults say so */
        *(volatile uint8_t *)(uintptr_t)(DATA_BASE + i) = 1;
    return mprotect(ro, PAGE_SIZE, PROT_READ) < 0 ? "mprotect failed" : NULL;
}

/* Undefined flags are the host's in an engine too, but the order of faults within an instruction, alignment checks and
 * what null selectors do to bases follow Intel's cores. */
static bool is_intel(void)
{
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    return b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx;
}

/* Linux delays a process that locks across a cache line by 10 ms or more where the CPU reports that. */
static bool split_locks_cost(void)
{
    static int cost = -1;
    if (cost < 0) {
        FILE *f = fopen("/proc/cpuinfo", "r");
        char line[8192];
        cost = 0;
        while (f && !cost && fgets(line, sizeof(line), f))
            cost = strstr(line, "split_lock_detect") != NULL;
        if (f)
            fclose(f);
    }
    return cost;
}

bool native_refuses(const struct test_case *tc)
{
    bool locked = (tc->zi.attributes & ZYDIS_ATTRIB_HAS_LOCK) || tc->zi.mnemonic == ZYDIS_MNEMONIC_XCHG;
    return locked && tc->ea_count && (tc->ea[0] & 63) > 48 && split_locks_cost();
}

/* Linux keeps the number of the CPU in the limit of a descriptor that user mode may look at. */
static void pin(unsigned worker)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return;
    unsigned skip = worker % (unsigned)CPU_COUNT(&allowed), cpu = 0;
    while (!CPU_ISSET(cpu, &allowed) || skip-- > 0)
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

bool native_descriptor(uint16_t sel, uint16_t *attr_out, uint32_t *limit_out)
{
    uint32_t lar, lsl;
    bool seen;
    __asm__("lar %3, %0\n\tlsl %3, %1" : "=&r"(lar), "=&r"(lsl), "=@ccz"(seen) : "r"((uint32_t)sel));
    *attr_out = (uint16_t)(lar >> 8 & 0xf0ff);
    *limit_out = lsl;
    return seen;
}

const char *native_init(unsigned worker)
{
    if (!is_intel())
        return "the comparison knows Intel's CPUs only";
    pin(worker);
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT))
        return "the kernel has no FSGSBASE";
    stack_t ss = {.ss_size = STACK_LEN};
    ss.ss_sp = mmap(NULL, STACK_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (ss.ss_sp == MAP_FAILED || sigaltstack(&ss, NULL) < 0)
        return "no signal stack";
    const char *why = map_memory();
    if (!why)
        why = make_template();
    return why;
}

void native_take_signals(void)
{
    static const int sigs[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (size_t i = 0; i < ARRAY_LEN(sigs); i++) {
        struct sigaction sa = {.sa_sigaction = native_entry, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        sigaction(sigs[i], &sa, &replaced[sigs[i]]);
    }
}
