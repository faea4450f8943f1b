/* exec/disasm.c: the instruction at RIP as text, for those who tell where a guest is. Reads, and changes nothing: the
 * page walk is the debugger's, which sets no accessed bits. */
#include <stdio.h>

#include "exec/engine.h"
#include "exec/x86/insn.h"
#include "exec/x86/mmu.h"

enum { INSN_LEN_MAX = sizeof(((struct exec_insn *)0)->bytes) };

/* As many of the 15 bytes at `lin` as are mapped, RAM or ROM. */
static unsigned fetch(struct machine *m, uint64_t lin, uint8_t *out)
{
    const struct cpu *c = cpu_of(&m->vcpu);
    unsigned n = 0;
    gpa_t at;
    while (n < INSN_LEN_MAX && mmu_debug_translate(&m->vcpu, gva((lin + n) & c->lin_mask), &at) &&
           mem_page(&m->mem, at) != MEM_NO_PAGE)
        mem_read(&m->mem, at, out + n++, 1);
    return n;
}

void exec_disassemble(struct machine *m, struct exec_insn *out)
{
    struct vcpu *v = &m->vcpu;
    uint64_t rip = v->s.r[R_RIP];
    ZydisFormatter formatter;
    struct insn in;
    struct insn_detail detail;
    *out = (struct exec_insn){0};
    unsigned avail = fetch(m, rip + cpu_of(v)->seg_base[S_CS], out->bytes);
    out->len = insn_decode_detail(v, out->bytes, avail, 0, &in, &detail);
    if (!out->len) {
        out->len = avail;
        snprintf(out->text, sizeof(out->text), "(the fetch faults: the next byte is not mapped)");
    } else if (!detail.valid) {
        snprintf(out->text, sizeof(out->text), "(no instruction of this CPU)");
    } else if (!ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) ||
               !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &detail.zi, detail.op,
                                                             detail.zi.operand_count_visible, out->text,
                                                             sizeof(out->text), rip, NULL))) {
        snprintf(out->text, sizeof(out->text), "(cannot be printed)");
    }
}
