/* replay/vm.c: building guests, and their description in a recording's header. */
#include "replay/vm.h"

#include <stdio.h>

#include "core/cpu.h"
#include "replay/live.h"
#include "replay/replayer.h"

/* The first estimate of a host-clock guest's speed (8 ns a tick), corrected at the first anchor; and the virtual clock's
 * fixed speed (1 ns a tick). */
#define RATE_HOST (UINT64_C(8) << 32)
#define RATE_VIRTUAL (UINT64_C(1) << 32)
enum { RAM_MIN = 1 << 20 };

struct err *vm_create(const struct vm_spec *spec, struct nondet door, struct vm *out)
{
    *out = (struct vm){0};
    struct err *e = engine_check(spec->engine);
    if (!e)
        e = cpu_check_host(spec->cpu_features);
    if (e)
        return e;
    struct machine_config cfg = {.ram_len = spec->ram_len, .rate_q32 = spec->host_clock ? RATE_HOST : RATE_VIRTUAL,
                                 .cpu_features = spec->cpu_features};
    size_t rom_len = align_up(spec->image.firmware ? spec->image.firmware_len : 0, PAGE_SIZE);
    e = machine_create(&cfg, rom_len, door, &out->machine);
    if (!e)
        e = machine_boot(out->machine, &spec->image);
    if (!e)
        e = exec_attach(out->machine);
    if (!e)
        e = engine_create(spec->engine, out->machine, &out->engine);
    if (e)
        vm_destroy(out);
    return e;
}

void vm_destroy(struct vm *vm)
{
    if (vm->engine)
        vm->engine->ops->destroy(vm->engine);
    if (vm->machine) {
        exec_detach(vm->machine);
        machine_destroy(vm->machine);
    }
    *vm = (struct vm){0};
}

/* ---- header ---- */

static void add_fact(struct vm_facts *f, const char *key, const char *fmt, uint64_t value)
{
    if (f->count == ARRAY_LEN(f->fact))
        return;
    size_t i = f->count++;
    snprintf(f->key[i], sizeof(f->key[i]), "%s", key);
    snprintf(f->text[i], sizeof(f->text[i]), fmt, value);
    f->fact[i] = (struct log_fact){f->key[i], f->text[i]};
}

#define HOST_FACT_PREFIX "host."

void vm_header(const struct vm_spec *spec, struct vm_facts *facts, struct log_header *out)
{
    facts->count = 0;
    add_fact(facts, "machine.version", "%" PRIu64, MACHINE_VERSION);
    add_fact(facts, "machine.ram_len", "%" PRIu64, spec->ram_len);
    add_fact(facts, "cpu.features", "0x%" PRIx64, spec->cpu_features);
    facts->fact[facts->count++] = (struct log_fact){"created.program", "hyperwind " HW_VERSION};
    struct exec_host_fact host[EXEC_HOST_FACTS_MAX];
    size_t n = exec_host_facts(host);
    for (size_t i = 0; i < n; i++) {
        char key[48];
        snprintf(key, sizeof(key), HOST_FACT_PREFIX "%s", host[i].name);
        add_fact(facts, key, "0x%" PRIx64, host[i].value);
    }
    *out = (struct log_header){.clock = spec->host_clock ? LOG_CLOCK_HOST : LOG_CLOCK_VIRTUAL,
                               .tick_unit = LOG_TICK_STEP, .facts = facts->fact, .fact_count = facts->count};
}

static struct err *check_host_facts(const struct log_header *h, bool force)
{
    struct exec_host_fact host[EXEC_HOST_FACTS_MAX];
    size_t n = exec_host_facts(host);
    for (size_t i = 0; i < n; i++) {
        char key[48];
        uint64_t recorded;
        snprintf(key, sizeof(key), HOST_FACT_PREFIX "%s", host[i].name);
        if (!log_header_fact_u64(h, key, &recorded))
            return err_new(ERR_CORRUPT, "the recording does not state %s", key);
        if (recorded == host[i].value)
            continue;
        if (!force)
            return err_new(ERR_UNSUPPORTED,
                           "recorded on another class of CPU: %s is 0x%" PRIx64 " there and 0x%" PRIx64
                           " here; --force tries all the same, the digests judge",
                           host[i].name, recorded, host[i].value);
        fprintf(stderr, "hyperwind: warning: %s differs from the recording's host\n", host[i].name);
    }
    return NULL;
}

struct err *vm_spec_from_header(const struct log_header *h, bool force, struct vm_spec *out)
{
    uint64_t features, version;
    *out = (struct vm_spec){.host_clock = h->clock == LOG_CLOCK_HOST};
    if (!log_header_fact_u64(h, "machine.version", &version) || !log_header_fact_u64(h, "machine.ram_len", &out->ram_len) ||
        !log_header_fact_u64(h, "cpu.features", &features))
        return err_new(ERR_CORRUPT, "the recording's header does not describe the machine");
    if (version != MACHINE_VERSION)
        return err_new(ERR_UNSUPPORTED,
                       "recorded on version %" PRIu64 " of the machine, this program has version %d; replay it with the "
                       "program that made it (%s)", version, MACHINE_VERSION,
                       log_header_fact(h, "created.program") ? log_header_fact(h, "created.program") : "unknown");
    if (out->ram_len < RAM_MIN || out->ram_len > MEM_RAM_MAX || (out->ram_len & PAGE_MASK))
        return err_new(ERR_CORRUPT, "the recording's header states an impossible memory size, %" PRIu64 " bytes", out->ram_len);
    out->cpu_features = (uint32_t)features;
    struct err *e = cpu_check_host(out->cpu_features);
    return e ? e : check_host_facts(h, force);
}

/* ---- the end ---- */

void vm_measure(const struct vm *vm)
{
    engine_measure(vm->engine, live_host_ns);
}

void vm_print_stats(const struct vm *vm)
{
    struct engine_stat stat[ENGINE_STATS_MAX];
    size_t n = engine_stats(vm->engine, stat);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "hyperwind: statistics: %s: %.10g\n", stat[i].name, stat[i].value);
}

int vm_end_status(const struct machine *m, enum session_end end)
{
    enum log_end_reason reason = end_reason(m, end);
    if (reason == LOG_END_DEBUG_EXIT)
        return (int)(m->request_value & 0xff);
    if (reason != LOG_END_CRASH && reason != LOG_END_HALTED)
        return 0;
    struct err *e = err_new(reason == LOG_END_CRASH ? ERR_GUEST : ERR_HALTED, "end");
    int status = err_exit_status(e);
    err_destroy(e);
    return status;
}

int vm_report_end(const struct machine *m, enum session_end end, uint64_t memory_digest)
{
    enum log_end_reason reason = end_reason(m, end);
    char code[32] = "";
    if (reason == LOG_END_DEBUG_EXIT)
        snprintf(code, sizeof(code), " %u", m->request_value);
    fprintf(stderr, "hyperwind: %s%s after %" PRIu64 " ticks, memory digest %016" PRIx64 "\n", log_end_reason_name(reason),
            code, m->vcpu.ticks, memory_digest);
    return vm_end_status(m, end);
}
