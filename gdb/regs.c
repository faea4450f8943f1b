/* gdb/regs.c: the registers that gdb sees. See regs.h. */
#include "gdb/regs.h"

#include <stdio.h>

#define AT(member) offsetof(struct vcpu_state, member)
#define GPR(name, bits, type, index) {name, bits, type, NULL, REG_U64, AT(r[index])}
#define SEL(name, index) {name, 32, "int32", NULL, REG_U16, AT(seg[index].sel)}
#define ST(i) {"st" #i, 80, "i387_ext", "float", REG_BYTES, AT(x87.st[i])}
#define X87(name, kind, member) {name, 32, "int", "float", kind, AT(x87.member)}
#define XMM(i) {"xmm" #i, 128, "vec128", "vector", REG_BYTES, AT(ymm[i])}
#define YMMH(i) {"ymm" #i "h", 128, "uint128", NULL, REG_BYTES, AT(ymm[i]) + 16}
#define SYS(name, bits, type, kind, member) {name, bits, type, "system", kind, AT(member)}
#define SYS64(name) SYS(#name, 64, "uint64", REG_U64, name)

#define FLOAT_ROWS                                                                                     \
    ST(0), ST(1), ST(2), ST(3), ST(4), ST(5), ST(6), ST(7),                                            \
    X87("fctrl", REG_U16, fcw), X87("fstat", REG_U16, fsw), X87("ftag", REG_TAGS, ftw),                \
    X87("fiseg", REG_HIGH, fip), X87("fioff", REG_LOW, fip), X87("foseg", REG_HIGH, fdp),              \
    X87("fooff", REG_LOW, fdp), X87("fop", REG_U16, fop)

#define SELECTOR_ROWS                                                                                  \
    SEL("cs", S_CS), SEL("ss", S_SS), SEL("ds", S_DS), SEL("es", S_ES), SEL("fs", S_FS), SEL("gs", S_GS)

static const struct gdbs_reg core64[] = {
    GPR("rax", 64, "int64", R_RAX), GPR("rbx", 64, "int64", R_RBX), GPR("rcx", 64, "int64", R_RCX),
    GPR("rdx", 64, "int64", R_RDX), GPR("rsi", 64, "int64", R_RSI), GPR("rdi", 64, "int64", R_RDI),
    GPR("rbp", 64, "data_ptr", R_RBP), GPR("rsp", 64, "data_ptr", R_RSP), GPR("r8", 64, "int64", R_R8),
    GPR("r9", 64, "int64", R_R9), GPR("r10", 64, "int64", R_R10), GPR("r11", 64, "int64", R_R11),
    GPR("r12", 64, "int64", R_R12), GPR("r13", 64, "int64", R_R13), GPR("r14", 64, "int64", R_R14),
    GPR("r15", 64, "int64", R_R15),
    {"rip", 64, "code_ptr", NULL, REG_PC, AT(r[R_RIP])}, {"eflags", 32, "i386_eflags", NULL, REG_FLAGS, AT(rflags)},
    SELECTOR_ROWS, FLOAT_ROWS,
};

static const struct gdbs_reg core32[] = {
    GPR("eax", 32, "int32", R_RAX), GPR("ecx", 32, "int32", R_RCX), GPR("edx", 32, "int32", R_RDX),
    GPR("ebx", 32, "int32", R_RBX), GPR("esp", 32, "data_ptr", R_RSP), GPR("ebp", 32, "data_ptr", R_RBP),
    GPR("esi", 32, "int32", R_RSI), GPR("edi", 32, "int32", R_RDI),
    {"eip", 32, "code_ptr", NULL, REG_PC, AT(r[R_RIP])}, {"eflags", 32, "i386_eflags", NULL, REG_FLAGS, AT(rflags)},
    SELECTOR_ROWS, FLOAT_ROWS,
};

#define XMM_LOW XMM(0), XMM(1), XMM(2), XMM(3), XMM(4), XMM(5), XMM(6), XMM(7)
#define MXCSR {"mxcsr", 32, "i386_mxcsr", "vector", REG_U32, AT(mxcsr)}
static const struct gdbs_reg sse64[] = {
    XMM_LOW, XMM(8), XMM(9), XMM(10), XMM(11), XMM(12), XMM(13), XMM(14), XMM(15), MXCSR,
};
static const struct gdbs_reg sse32[] = {XMM_LOW, MXCSR};

#define YMM_LOW YMMH(0), YMMH(1), YMMH(2), YMMH(3), YMMH(4), YMMH(5), YMMH(6), YMMH(7)
static const struct gdbs_reg avx64[] = {
    YMM_LOW, YMMH(8), YMMH(9), YMMH(10), YMMH(11), YMMH(12), YMMH(13), YMMH(14), YMMH(15),
};
static const struct gdbs_reg avx32[] = {YMM_LOW};

#define SEGMENT_BASE(name, index) {name, 64, "int64", NULL, REG_U64, AT(seg[index].base)}
static const struct gdbs_reg segments64[] = {SEGMENT_BASE("fs_base", S_FS), SEGMENT_BASE("gs_base", S_GS)};

#define BASE(name, index) SYS(name, 64, "uint64", REG_U64, seg[index].base)
#define SYSTEM_ROWS                                                                                    \
    SYS("cr0", 64, "i386_cr0", REG_U64, cr0), SYS("cr2", 64, "uint64", REG_U64, cr2),                  \
    SYS("cr3", 64, "uint64", REG_U64, cr3), SYS("cr4", 64, "i386_cr4", REG_U64, cr4),                  \
    {"cr8", 64, "uint64", "system", REG_CR8, 0}, SYS("efer", 64, "i386_efer", REG_U64, efer),          \
    SYS("k_gs_base", 64, "uint64", REG_U64, kernel_gs_base),                                           \
    BASE("cs_base", S_CS), BASE("ss_base", S_SS), BASE("ds_base", S_DS), BASE("es_base", S_ES),        \
    SYS("gdtr_base", 64, "uint64", REG_U64, gdtr.base), SYS("gdtr_limit", 32, "uint32", REG_U32, gdtr.limit), \
    SYS("idtr_base", 64, "uint64", REG_U64, idtr.base), SYS("idtr_limit", 32, "uint32", REG_U32, idtr.limit), \
    SYS("ldtr", 32, "uint32", REG_U16, seg[S_LDTR].sel), BASE("ldtr_base", S_LDTR),                    \
    SYS("ldtr_limit", 32, "uint32", REG_U32, seg[S_LDTR].limit),                                       \
    SYS("tr", 32, "uint32", REG_U16, seg[S_TR].sel), BASE("tr_base", S_TR),                            \
    SYS("tr_limit", 32, "uint32", REG_U32, seg[S_TR].limit),                                           \
    SYS64(star), SYS64(lstar), SYS64(cstar), SYS64(sfmask), SYS64(xcr0),                               \
    SYS("dr0", 64, "uint64", REG_U64, dr[0]), SYS("dr1", 64, "uint64", REG_U64, dr[1]),                \
    SYS("dr2", 64, "uint64", REG_U64, dr[2]), SYS("dr3", 64, "uint64", REG_U64, dr[3]),                \
    SYS("dr6", 64, "uint64", REG_U64, dr[6]), SYS("dr7", 64, "uint64", REG_U64, dr[7]),                \
    {"icount", 64, "uint64", "system", REG_ICOUNT, 0}

static const struct gdbs_reg system64[] = {SYSTEM_ROWS};
static const struct gdbs_reg system32[] = {SEGMENT_BASE("fs_base", S_FS), SEGMENT_BASE("gs_base", S_GS), SYSTEM_ROWS};

/* ---- the types of registers with named bits: SDM vol. 1 3.4.3 (EFLAGS) and 10.2.3 (MXCSR), vol. 3 2.5 (CR0, CR4)
 * and 2.2.1 (EFER) ---- */

#define FLAG(name, bit) "<field name=\"" name "\" start=\"" #bit "\" end=\"" #bit "\"/>"
#define FIELD(name, low, high) "<field name=\"" name "\" start=\"" #low "\" end=\"" #high "\"/>"
#define FLAGS(id, size, fields) "<flags id=\"" id "\" size=\"" #size "\">" fields "</flags>\n"

static const char core_types[] =
    FLAGS("i386_eflags", 4,
          FLAG("CF", 0) FLAG("PF", 2) FLAG("AF", 4) FLAG("ZF", 6) FLAG("SF", 7) FLAG("TF", 8) FLAG("IF", 9)
          FLAG("DF", 10) FLAG("OF", 11) FIELD("IOPL", 12, 13) FLAG("NT", 14) FLAG("RF", 16) FLAG("VM", 17)
          FLAG("AC", 18) FLAG("VIF", 19) FLAG("VIP", 20) FLAG("ID", 21));

#define VECTOR(id, type, count) "<vector id=\"" id "\" type=\"" type "\" count=\"" #count "\"/>\n"
static const char sse_types[] =
    VECTOR("v4f", "ieee_single", 4) VECTOR("v2d", "ieee_double", 2) VECTOR("v16i8", "int8", 16)
    VECTOR("v8i16", "int16", 8) VECTOR("v4i32", "int32", 4) VECTOR("v2i64", "int64", 2)
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
    "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
    "<field name=\"uint128\" type=\"uint128\"/></union>\n"
    FLAGS("i386_mxcsr", 4,
          FLAG("IE", 0) FLAG("DE", 1) FLAG("ZE", 2) FLAG("OE", 3) FLAG("UE", 4) FLAG("PE", 5) FLAG("DAZ", 6)
          FLAG("IM", 7) FLAG("DM", 8) FLAG("ZM", 9) FLAG("OM", 10) FLAG("UM", 11) FLAG("PM", 12) FIELD("RC", 13, 14)
          FLAG("FZ", 15));

static const char system_types[] =
    FLAGS("i386_cr0", 8,
          FLAG("PE", 0) FLAG("MP", 1) FLAG("EM", 2) FLAG("TS", 3) FLAG("ET", 4) FLAG("NE", 5) FLAG("WP", 16)
          FLAG("AM", 18) FLAG("NW", 29) FLAG("CD", 30) FLAG("PG", 31))
    FLAGS("i386_cr4", 8,
          FLAG("VME", 0) FLAG("PVI", 1) FLAG("TSD", 2) FLAG("DE", 3) FLAG("PSE", 4) FLAG("PAE", 5) FLAG("MCE", 6)
          FLAG("PGE", 7) FLAG("PCE", 8) FLAG("OSFXSR", 9) FLAG("OSXMMEXCPT", 10) FLAG("UMIP", 11) FLAG("LA57", 12)
          FLAG("VMXE", 13) FLAG("SMXE", 14) FLAG("FSGSBASE", 16) FLAG("PCIDE", 17) FLAG("OSXSAVE", 18)
          FLAG("SMEP", 20) FLAG("SMAP", 21) FLAG("PKE", 22))
    FLAGS("i386_efer", 8, FLAG("SCE", 0) FLAG("LME", 8) FLAG("LMA", 10) FLAG("NXE", 11));

static const struct gdbs_feature features64[] = {
    {"org.gnu.gdb.i386.core", core_types, core64, ARRAY_LEN(core64)},
    {"org.gnu.gdb.i386.sse", sse_types, sse64, ARRAY_LEN(sse64)},
    {"org.gnu.gdb.i386.avx", NULL, avx64, ARRAY_LEN(avx64)},
    {"org.gnu.gdb.i386.segments", NULL, segments64, ARRAY_LEN(segments64)},
    {"org.hyperwind.i386.system", system_types, system64, ARRAY_LEN(system64)},
};
static const struct gdbs_feature features32[] = {
    {"org.gnu.gdb.i386.core", core_types, core32, ARRAY_LEN(core32)},
    {"org.gnu.gdb.i386.sse", sse_types, sse32, ARRAY_LEN(sse32)},
    {"org.gnu.gdb.i386.avx", NULL, avx32, ARRAY_LEN(avx32)},
    {"org.hyperwind.i386.system", system_types, system32, ARRAY_LEN(system32)},
};

/* Numbers follow from the order of the rows above. */
enum { RBP = 6, RSP = 7, RIP = 16, ESP = 4, EBP = 5, EIP = 8 };
static const uint8_t expedited64[] = {RBP, RSP, RIP}, expedited32[] = {ESP, EBP, EIP};

const struct gdbs_arch gdb_arch_x86_64 = {
    "i386:x86-64", features64, ARRAY_LEN(features64), RIP, expedited64, ARRAY_LEN(expedited64),
};
const struct gdbs_arch gdb_arch_i386 = {
    "i386", features32, ARRAY_LEN(features32), EIP, expedited32, ARRAY_LEN(expedited32),
};

/* ---- values ---- */

static bool code64(const struct vcpu_state *s)
{
    return (s->efer & EFER_LMA) && (s->seg[S_CS].attr & SEG_L);
}

uint64_t reg_pc(const struct vcpu_state *s)
{
    return code64(s) ? s->r[R_RIP] : (uint32_t)(s->seg[S_CS].base + s->r[R_RIP]);
}

/* The tag word of FNSTENV, two bits for each physical register, from the abridged one (SDM vol. 1, 8.1.7). */
static uint16_t full_tags(const struct x87 *x)
{
    enum { VALID, ZERO, SPECIAL, EMPTY };
    unsigned tags = 0, top = x->fsw >> 11 & 7;
    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *st = x->st[(i - top) & 7];
        unsigned exponent = get_le16(st + 8) & 0x7fff, tag = SPECIAL;
        uint64_t fraction = get_le64(st);
        if (!(x->ftw >> i & 1))
            tag = EMPTY;
        else if (!exponent && !fraction)
            tag = ZERO;
        else if (exponent && exponent != 0x7fff && fraction >> 63)
            tag = VALID;
        tags |= tag << 2 * i;
    }
    return (uint16_t)tags;
}

static uint8_t abridged_tags(uint64_t full)
{
    unsigned abridged = 0;
    for (unsigned i = 0; i < 8; i++)
        abridged |= (unsigned)((full >> 2 * i & 3) != 3) << i;
    return (uint8_t)abridged;
}

static uint64_t integer(const struct timeline *t, const struct vcpu_state *s, const struct gdbs_reg *r)
{
    const uint8_t *at = (const uint8_t *)s + r->at;
    switch (r->kind) {
    case REG_U16: return get_le16(at);
    case REG_U32: return get_le32(at);
    case REG_U64: return get_le64(at);
    case REG_PC: return reg_pc(s);
    case REG_FLAGS: return vcpu_rflags(s);
    case REG_TAGS: return full_tags(&s->x87);
    case REG_LOW: return get_le32(at);
    case REG_HIGH: return get_le64(at) >> 32;
    case REG_CR8: return timeline_cr8(t);
    case REG_ICOUNT: return timeline_position(t);
    default: return 0;
    }
}

void reg_read(const struct timeline *t, const struct gdbs_reg *r, uint8_t *out)
{
    const struct vcpu_state *s = timeline_vcpu(t);
    size_t len = r->bits / 8;
    uint8_t value[8];
    if (r->kind == REG_BYTES) {
        memcpy(out, (const uint8_t *)s + r->at, len);
        return;
    }
    put_le64(value, integer(t, s, r));
    memcpy(out, value, len);
}

bool reg_write(struct vcpu_state *s, const struct gdbs_reg *r, const uint8_t *value, char why[GDBS_WHY])
{
    uint8_t *at = (uint8_t *)s + r->at, bytes[8] = {0};
    memcpy(bytes, value, MIN((size_t)r->bits / 8, sizeof(bytes)));
    uint64_t v = get_le64(bytes);
    uint64_t limit = r->kind == REG_U16 ? UINT16_MAX : UINT64_MAX; /* others are as wide as what gdb sends */
    if (r->kind == REG_CR8 || r->kind == REG_ICOUNT || v > limit) {
        snprintf(why, GDBS_WHY, v > limit ? "%s cannot hold this value" : "%s is read-only", r->name);
        return false;
    }
    switch (r->kind) {
    case REG_U16: put_le16(at, (uint16_t)v); break;
    case REG_U32: put_le32(at, (uint32_t)v); break;
    case REG_U64: put_le64(at, v); break;
    case REG_BYTES: memcpy(at, value, r->bits / 8); break;
    case REG_PC: s->r[R_RIP] = code64(s) ? v : (uint32_t)(v - s->seg[S_CS].base); break;
    case REG_FLAGS: vcpu_set_rflags(s, v); break;
    case REG_TAGS: s->x87.ftw = abridged_tags(v); break;
    case REG_LOW: put_le32(at, (uint32_t)v); break;
    case REG_HIGH: put_le32(at + 4, (uint32_t)v); break;
    }
    return true;
}
