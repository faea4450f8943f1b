/* tests/insn/insn_test.c: every instruction form through an engine and natively, compared. See README.md.
 *
 *   insn_test                                   the whole run; seed and totals are printed
 *   insn_test --seed S --form N --case K -v     one case again, with both states
 *   insn_test --list | --untested               forms; forms that are not compared, and why
 *   insn_test --engine-only                     the engine alone, for a debugger (which would swallow our SIGTRAPs)
 *   insn_test --native-only                     the host against itself: finds cases not determined by input
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/err.h"
#include "core/cpu.h"
#include "tests/insn/insn_test.h"

enum {
    MIN_CASES = 200,      /* a compared form */
    MIN_TOTAL = 1000000,  /* all of them together */
    UD_CASES = 4,         /* a form outside the CPU model */
    REFUSED_CASES = 3000, /* of a map, encodings that the decoder refuses */
    REPORTS_PER_FORM = 2,
    UNSTEADY_MAX = 4,     /* cases in a run */
    JOBS_MAX = 64,
    FORM_SECONDS = 60,
    EXIT_SKIPPED = 77,
};

struct options {
    uint64_t seed;
    unsigned cases;      /* 0: chosen so that the minima are reached */
    long form, one_case; /* -1: all */
    const char *engine, *mnemonic;
    unsigned jobs;
    bool list, untested, native_only, engine_only, verbose;
};

/* Of all workers, in shared memory. */
struct totals {
    struct worker {
        uint64_t cases, ud_cases, mismatches, unsteady, ended[21] /* vector; the last: retired */;
        uint32_t form, case_index, bad_forms;
    } worker[JOBS_MAX];
};

struct run {
    const struct options *opt;
    struct form_list forms;
    unsigned cases;
    struct guest *guest;
    struct worker *w;
};

static struct rng case_rng(uint64_t seed, uint64_t form, uint64_t case_index)
{
    struct rng g = {seed};
    g.s = rnd(&g) ^ form << 32 ^ case_index;
    g.s = rnd(&g);
    return g;
}

static void print_code(const struct test_case *tc)
{
    ZydisFormatter fmt;
    char text[128];
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterSetProperty(&fmt, ZYDIS_FORMATTER_PROP_FORCE_SEGMENT, ZYAN_TRUE);
    const ZydisDecoder *d = form_decoder(tc->in.sel[S_CS] == SEL_CODE64 ? 64 : 32);
    text[0] = 0;
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(d, tc->code, tc->code_len, &zi, op)))
        ZydisFormatterFormatInstruction(&fmt, &zi, op, zi.operand_count_visible, text, sizeof(text), tc->code_addr,
                                        NULL);
    for (unsigned i = 0; i < tc->code_len; i++)
        printf("%02x", tc->code[i]);
    printf("  %s", text);
}

/* What a case left: the state, and the data pages. */
struct outcome {
    struct insn_state state;
    uint8_t data[DATA_LEN];
};

static void print_data_diff(const uint8_t *before, const struct outcome *native, const struct outcome *engine)
{
    unsigned shown = 0;
    for (unsigned i = 0; i < DATA_LEN && shown < 64; i++) {
        uint8_t a = native->data[i], b = engine->data[i];
        if (before[i] == a && a == b)
            continue;
        printf("  %#x: %02x -> native %02x engine %02x%s\n", DATA_BASE + i, before[i], a, b, a != b ? " !" : "");
        shown++;
    }
}

/* What a form outside the CPU model must do. */
static void expect_ud(const struct test_case *tc, const uint8_t *data, struct outcome *out)
{
    out->state = tc->in;
    out->state.vector = 6;
    out->state.rflags |= FL_RF; /* as in the frame of every fault, SDM vol. 3, 18.3.1.1 */
    memcpy(out->data, data, DATA_LEN);
}

static void run_native(const struct test_case *tc, const uint8_t *data, struct outcome *out)
{
    uint8_t *mem = native_data();
    memcpy(mem, data, DATA_LEN);
    native_run(tc, &out->state);
    native_settle(tc, &out->state, mem);
    native_undo_begun(tc, &out->state, mem, data);
    memcpy(out->data, mem, DATA_LEN);
}

static void run_engine(struct guest *g, const struct test_case *tc, const uint8_t *data, struct outcome *out)
{
    guest_run(g, tc, data, &out->state);
    engine_settle(&out->state);
    memcpy(out->data, guest_data(g), DATA_LEN);
}

static bool outcomes_differ(const struct outcome *a, const struct outcome *b, char text[DIFF_TEXT])
{
    bool differ = states_differ(&a->state, &b->state, text);
    if (memcmp(a->data, b->data, DATA_LEN) == 0)
        return differ;
    size_t len = strlen(text);
    snprintf(text + len, DIFF_TEXT - len, "%smem", len ? " " : "");
    return true;
}

static void print_case(const struct run *r, size_t index, unsigned k, const struct test_case *tc)
{
    printf("form %zu case %u, %u-bit: ", index, k, r->forms.form[index].mode);
    print_code(tc);
    printf("\nat %#" PRIx64 ", seed %" PRIu64 "; in the engine behind %u NOPs%s%s\n", tc->code_addr, r->opt->seed,
           tc->prelude, tc->twice ? ", twice" : "", tc->legacy ? ", protected mode" : "");
    state_print("before", &tc->in);
    fflush(stdout);
}

/* The host itself says twice what the engine says, after it has said something else: a hypervisor below it loses a single-step
 * trap, or makes one up, once in some million cases. */
static bool host_is_unsteady(const struct test_case *tc, const uint8_t *data, const struct outcome *engine)
{
    static struct outcome again;
    char ignored[DIFF_TEXT] = "";
    for (unsigned i = 0; i < 2; i++) {
        run_native(tc, data, &again);
        if (outcomes_differ(&again, engine, ignored))
            return false;
    }
    return true;
}

/* Run one case. False: the outcomes differ, as `text` says. `native` and `engine` are what the options make of them:
 * with
 * --native-only both are the host, with --engine-only there is nothing to compare with. */
static bool run_case(struct run *r, size_t index, unsigned k, char text[DIFF_TEXT], bool show)
{
    static uint8_t data[DATA_LEN];
    static struct outcome native, engine;
    const struct form *f = &r->forms.form[index];
    bool known = f->kind == FORM_TEST, compare = !known || !r->opt->engine_only;
    struct rng g = case_rng(r->opt->seed, index, k);
    struct test_case tc;
    memcpy(data, gen_data_image(), DATA_LEN);
    if (!gen_case(&r->forms, f, &g, &tc, data)) {
        snprintf(text, DIFF_TEXT, "no encoding generated");
        return false;
    }
    if (known && compare && native_refuses(&tc))
        return true;
    if (show)
        print_case(r, index, k, &tc);
    if (!known)
        expect_ud(&tc, data, &native);
    else if (compare)
        run_native(&tc, data, &native);
    if (known && compare)
        r->w->ended[native.state.vector < 0 || native.state.vector > 19 ? 20 : native.state.vector]++;

    if (r->guest)
        run_engine(r->guest, &tc, data, &engine);
    else if (known)
        run_native(&tc, data, &engine);
    else
        engine = native;
    bool differ = compare && outcomes_differ(&native, &engine, text);
    if (differ && known && r->guest && host_is_unsteady(&tc, data, &engine)) {
        r->w->unsteady++;
        differ = false;
        text[0] = 0;
    }
    if (show) {
        state_print("native", &native.state);
        state_print("engine", &engine.state);
        print_data_diff(data, &native, &engine);
        printf("%s%s\n", differ ? "DIFFERENT: " : "equal", text);
    }
    return !differ;
}

static void run_form(struct run *r, size_t index)
{
    const struct form *f = &r->forms.form[index];
    unsigned cases = f->refused ? REFUSED_CASES : f->kind == FORM_TEST ? r->cases : UD_CASES, bad = 0;
    uint64_t retired = r->w->ended[20];
    char text[DIFF_TEXT], seen[REPORTS_PER_FORM][DIFF_TEXT];
    alarm(FORM_SECONDS); /* a case that hangs the host ends the worker; the parent names it */
    for (unsigned k = 0; k < cases; k++) {
        r->w->form = (uint32_t)index;
        r->w->case_index = k;
        text[0] = 0;
        bool equal = run_case(r, index, k, text, false);
        *(f->kind == FORM_TEST ? &r->w->cases : &r->w->ud_cases) += 1;
        if (equal)
            continue;
        r->w->mismatches++;
        bool known = bad >= REPORTS_PER_FORM;
        for (unsigned i = 0; i < bad && i < REPORTS_PER_FORM; i++)
            known |= strcmp(seen[i], text) == 0;
        if (known)
            continue;
        strcpy(seen[bad], text);
        if (!bad++)
            r->w->bad_forms++;
        printf("MISMATCH %u-bit %s [%s]: %s; --seed %" PRIu64 " --form %zu --case %u -v\n", f->mode,
               ZydisMnemonicGetString(f->mnemonic), f->sample, text, r->opt->seed, index, k);
    }
    if (r->opt->verbose && f->kind == FORM_TEST && r->w->ended[20] == retired)
        printf("form %zu, %u-bit %s [%s]: no case retired\n", index, f->mode, ZydisMnemonicGetString(f->mnemonic),
               f->sample);
}

static bool selected(const struct run *r, size_t i)
{
    const struct form *f = &r->forms.form[i];
    return f->kind != FORM_SKIP && (r->opt->form < 0 || r->opt->form == (long)i) &&
           (!r->opt->mnemonic || strcmp(r->opt->mnemonic, ZydisMnemonicGetString(f->mnemonic)) == 0);
}

static int skipped(const char *why)
{
    printf("skipped: %s\n", why);
    return EXIT_SKIPPED;
}

/* Both sides, in the process that uses them: their memory is shared with nobody. */
static int start_sides(struct run *r, unsigned worker)
{
    const char *why = r->opt->engine_only ? NULL : native_init(worker);
    if (why)
        return skipped(why);
    struct err *e = r->opt->native_only ? NULL : guest_create(r->opt->engine, 0, &r->guest);
    if (!r->opt->engine_only)
        native_take_signals();
    if (!e)
        return 0;
    fprintf(stderr, "insn_test: %s\n", err_message(e));
    int status = err_exit_status(e);
    err_destroy(e);
    return status;
}

static int worker_main(struct run *r, unsigned self)
{
    int status = start_sides(r, self);
    if (status)
        return status;
    for (size_t i = 0; i < r->forms.count; i++)
        if (i % r->opt->jobs == self && selected(r, i))
            run_form(r, i);
    guest_destroy(r->guest);
    return r->w->mismatches ? 1 : 0;
}

/* 0, 1 with mismatches or a dead worker, or that the test cannot run here. */
static int reap(const struct totals *t, const pid_t *pid, unsigned jobs)
{
    int status = 0;
    for (unsigned i = 0; i < jobs; i++) {
        int st = 0;
        while (waitpid(pid[i], &st, 0) < 0 && errno == EINTR)
            continue;
        if (WIFEXITED(st) && WEXITSTATUS(st) == EXIT_SKIPPED)
            return EXIT_SKIPPED;
        if (st != 0)
            status = 1;
        if (WIFSIGNALED(st) || WEXITSTATUS(st) > 1)
            printf("worker %u ended with status %#x in --form %u --case %u\n", i, st, t->worker[i].form,
                   t->worker[i].case_index);
    }
    return status;
}

static int run_all(struct run *r)
{
    struct totals *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED)
        return 10;
    pid_t pid[JOBS_MAX];
    fflush(NULL);
    for (unsigned i = 0; i < r->opt->jobs; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            setvbuf(stdout, NULL, _IOLBF, 0);
            r->w = &t->worker[i];
            int end = worker_main(r, i);
            fflush(NULL);
            _exit(end);
        }
    }
    int status = reap(t, pid, r->opt->jobs);
    struct worker sum = {0};
    for (unsigned i = 0; i < r->opt->jobs; i++) {
        sum.cases += t->worker[i].cases;
        sum.ud_cases += t->worker[i].ud_cases;
        sum.mismatches += t->worker[i].mismatches;
        sum.unsteady += t->worker[i].unsteady;
        sum.bad_forms += t->worker[i].bad_forms;
        for (unsigned v = 0; v < ARRAY_LEN(sum.ended); v++)
            sum.ended[v] += t->worker[i].ended[v];
    }
    for (unsigned v = 0; v < ARRAY_LEN(sum.ended); v++)
        if (sum.ended[v])
            printf("%s%s %" PRIu64, v && sum.ended[v] ? ", " : "", v == 20 ? "retired" : vector_name((int)v),
                   sum.ended[v]);
    printf("\n%" PRIu64 " cases compared with the host, %" PRIu64 " must raise #UD; %" PRIu64
           " mismatches in %u forms; seed %" PRIu64 "\n",
           sum.cases, sum.ud_cases, sum.mismatches, sum.bad_forms, r->opt->seed);
    if (sum.unsteady)
        printf("%" PRIu64 " times the host did not agree with itself; more than %d are too many\n", sum.unsteady, UNSTEADY_MAX);
    return status || sum.unsteady <= UNSTEADY_MAX ? status : 1;
}

static int replay_case(struct run *r)
{
    char text[DIFF_TEXT] = "";
    int status = r->opt->form < (long)r->forms.count ? start_sides(r, 0) : 2;
    if (status)
        return status;
    bool equal = run_case(r, (size_t)r->opt->form, (unsigned)r->opt->one_case, text, r->opt->verbose);
    if (!equal && !r->opt->verbose)
        printf("DIFFERENT: %s\n", text);
    guest_destroy(r->guest);
    return equal ? 0 : 1;
}

static void list_forms(const struct run *r, bool untested)
{
    for (size_t i = 0; i < r->forms.count; i++) {
        const struct form *f = &r->forms.form[i];
        if (untested && f->kind != FORM_SKIP)
            continue;
        printf("%6zu %u-bit %-18s %-60s %s\n", i, f->mode, ZydisISASetGetString(f->isa_set), f->sample,
               f->kind == FORM_TEST ? "compared"
               : f->kind == FORM_UD ? "outside the CPU model: #UD"
                                    : f->why);
    }
}

static void count_forms(struct run *r)
{
    size_t n[3] = {0};
    for (size_t i = 0; i < r->forms.count; i++)
        n[r->forms.form[i].kind]++;
    r->cases = r->opt->cases ? r->opt->cases : MAX(MIN_CASES, (unsigned)(MIN_TOTAL / MAX(n[FORM_TEST], 1u)) + 1);
    printf("%zu forms compared with the host, %u cases each; %zu outside the CPU model; %zu not comparable "
           "(--untested); seed %" PRIu64 "\n",
           n[FORM_TEST], r->cases, n[FORM_UD], n[FORM_SKIP], r->opt->seed);
}

static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"seed", 1, NULL, 's'},
        {"cases", 1, NULL, 'n'},
        {"form", 1, NULL, 'f'},
        {"case", 1, NULL, 'c'},
        {"engine", 1, NULL, 'e'},
        {"mnemonic", 1, NULL, 'm'},
        {"jobs", 1, NULL, 'j'},
        {"list", 0, NULL, 'l'},
        {"engine-only", 0, NULL, 'E'},
        {"untested", 0, NULL, 'u'},
        {"native-only", 0, NULL, 'N'},
        {"verbose", 0, NULL, 'v'},
        {0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "v", longs, NULL)) >= 0) {
        switch (c) {
        case 's':
            o->seed = strtoull(optarg, NULL, 0);
            break;
        case 'n':
            o->cases = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'f':
            o->form = strtol(optarg, NULL, 0);
            break;
        case 'c':
            o->one_case = strtol(optarg, NULL, 0);
            break;
        case 'e':
            o->engine = optarg;
            break;
        case 'm':
            o->mnemonic = optarg;
            break;
        case 'j':
            o->jobs = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'l':
            o->list = true;
            break;
        case 'u':
            o->untested = true;
            break;
        case 'N':
            o->native_only = true;
            break;
        case 'E':
            o->engine_only = true;
            break;
        case 'v':
            o->verbose = true;
            break;
        default:
            return 2;
        }
    }
    return optind == argc && o->jobs >= 1 && o->jobs <= JOBS_MAX ? 0 : 2;
}

int main(int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct options opt = {
        .seed = 1, .form = -1, .one_case = -1, .engine = "interp", .jobs = (unsigned)MIN(MAX(cpus, 1), JOBS_MAX)};
    int status = parse_options(argc, argv, &opt);
    if (status) {
        fprintf(stderr,
                "usage: insn_test [--seed S] [--cases N] [--form N [--case K] [-v]] [--mnemonic M] [--engine E]\n"
                "                 [--jobs J] [--native-only|--engine-only] [--list] [--untested]\n");
        return status;
    }
    struct err *e = cpu_check_host(0);
    if (e) {
        status = skipped(err_message(e));
        err_destroy(e);
        return status;
    }
    model_init(0);
    static struct run r;
    r.opt = &opt;
    forms_enumerate(&r.forms, 64);
    forms_enumerate(&r.forms, 32);
    if (opt.list || opt.untested) {
        list_forms(&r, opt.untested);
        return 0;
    }
    if (opt.form >= 0 && opt.one_case >= 0) {
        static struct worker w;
        r.w = &w;
        return replay_case(&r);
    }
    count_forms(&r);
    return run_all(&r);
}
