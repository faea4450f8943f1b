/* core/load/acpi.c: the ACPI tables of the board, as firmware would leave them (ACPI 6.3; section numbers below).
 *
 * The tables lie in the ACPI-data region of the memory map, the FACS in the NVS region, the RSDP at RSDP_BASE. All of
 * them are below 4 GiB, so the 32-bit RSDT names the same tables as the XSDT, for old 32-bit guests. ACPI mode is
 * always on: there is no SMI command port, and SCI_EN reads as one. */
#include <stddef.h>

#include "core/base/check.h"
#include "core/load/load.h"
#include "core/platform.h"

#include "dsdt.hex" /* dsdt_aml_code[], made from dsdt.asl */

#define packed __attribute__((packed))

struct sdt { /* 5.2.6 */
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} packed;

struct gas { /* 5.2.3.2 */
    uint8_t space, bit_width, bit_offset, access;
    uint64_t addr;
} packed;

struct rsdp { /* 5.2.5.3 */
    char signature[8];
    uint8_t checksum; /* of the first 20 bytes */
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
    uint8_t checksum_all, reserved[3];
} packed;

struct rsdt {
    struct sdt head;
    uint32_t fadt, madt;
} packed;

struct xsdt {
    struct sdt head;
    uint64_t fadt, madt;
} packed;

struct facs { /* 5.2.10 */
    char signature[4];
    uint32_t length, hardware_signature, waking_vector, global_lock, flags;
    uint64_t x_waking_vector;
    uint8_t version, reserved[3];
    uint32_t ospm_flags;
    uint8_t reserved2[24];
} packed;

struct fadt { /* 5.2.9 */
    struct sdt head;
    uint32_t facs, dsdt;
    uint8_t reserved, pm_profile;
    uint16_t sci_int;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base, cst_cnt;
    uint16_t c2_latency, c3_latency, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_arch;
    uint8_t reserved2;
    uint32_t flags;
    struct gas reset;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor_version;
    uint64_t x_facs, x_dsdt;
    struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0, x_gpe1;
    struct gas sleep_control, sleep_status;
    uint64_t hypervisor_vendor;
} packed;

struct madt { /* 5.2.12 */
    struct sdt head;
    uint32_t lapic_addr, flags;
    struct madt_lapic {
        uint8_t type, len, uid, id;
        uint32_t flags;
    } packed lapic;
    struct madt_ioapic {
        uint8_t type, len, id, reserved;
        uint32_t addr, gsi_base;
    } packed ioapic;
    struct madt_override {
        uint8_t type, len, bus, irq;
        uint32_t gsi;
        uint16_t flags;
    } packed override[2];
    struct madt_lapic_nmi {
        uint8_t type, len, uid;
        uint16_t flags;
        uint8_t lint;
    } packed nmi;
} packed;

_Static_assert(sizeof(struct sdt) == 36 && sizeof(struct rsdp) == 36 && sizeof(struct facs) == 64, "ACPI layouts");
_Static_assert(sizeof(struct fadt) == 276, "FADT of ACPI 6.3");

enum {
    GAS_IO = 1,
    GAS_BYTE = 1, GAS_WORD = 2, GAS_DWORD = 3,

    FADT_WBINVD = 1 << 0, FADT_PROC_C1 = 1 << 2, FADT_PWR_BUTTON = 1 << 4, FADT_SLP_BUTTON = 1 << 5,
    FADT_FIX_RTC = 1 << 6, FADT_TMR_VAL_EXT = 1 << 8, FADT_RESET_REG_SUP = 1 << 10, FADT_HEADLESS = 1 << 12,
    BOOT_LEGACY_DEVICES = 1 << 0, BOOT_8042 = 1 << 1, BOOT_NO_VGA = 1 << 2, BOOT_NO_MSI = 1 << 3,
    NO_C2 = 101, NO_C3 = 1001, /* latencies above 100 and 1000 us: no such state */

    MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4,
    MADT_PCAT_COMPAT = 1, LAPIC_ENABLED = 1, ALL_PROCESSORS = 0xff,
    INTI_CONFORMS = 0, INTI_LEVEL_HIGH = 0xd, /* trigger 3:2, polarity 1:0 */
    LINT_NMI = 1,
};

static const char oem_id[6] = "HYPRWD", oem_table_id[8] = "HYPRWIND", creator_id[4] = "HYPW";

static uint8_t checksum(const void *p, size_t len)
{
    const uint8_t *b = p;
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += b[i];
    return (uint8_t)-sum;
}

static void finish(struct sdt *t, const char signature[4], size_t len, uint8_t revision)
{
    memcpy(t->signature, signature, sizeof(t->signature));
    t->length = (uint32_t)len;
    t->revision = revision;
    memcpy(t->oem_id, oem_id, sizeof(oem_id));
    memcpy(t->oem_table_id, oem_table_id, sizeof(oem_table_id));
    t->oem_revision = 1;
    memcpy(t->creator_id, creator_id, sizeof(creator_id));
    t->creator_revision = 1;
    t->checksum = 0;
    t->checksum = checksum(t, len);
}

static struct gas io_reg(uint16_t port, uint8_t len, uint8_t access)
{
    return (struct gas){.space = GAS_IO, .bit_width = (uint8_t)(len * 8), .access = access, .addr = port};
}

static void fill_fadt(struct fadt *f, uint32_t facs, uint32_t dsdt)
{
    *f = (struct fadt){
        .facs = facs, /* x_facs must then be 0 */
        .dsdt = dsdt,
        .x_dsdt = dsdt,
        .sci_int = IRQ_SCI,
        .pm1a_evt = PM1A_EVT_PORT,
        .pm1_evt_len = PM1A_EVT_LEN,
        .x_pm1a_evt = io_reg(PM1A_EVT_PORT, PM1A_EVT_LEN, GAS_WORD),
        .pm1a_cnt = PM1A_CNT_PORT,
        .pm1_cnt_len = PM1A_CNT_LEN,
        .x_pm1a_cnt = io_reg(PM1A_CNT_PORT, PM1A_CNT_LEN, GAS_WORD),
        .pm_tmr = PM_TMR_PORT,
        .pm_tmr_len = PM_TMR_LEN,
        .x_pm_tmr = io_reg(PM_TMR_PORT, PM_TMR_LEN, GAS_DWORD),
        .c2_latency = NO_C2,
        .c3_latency = NO_C3,
        .century = CMOS_CENTURY,
        .boot_arch = BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA | BOOT_NO_MSI,
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_VAL_EXT |
                 FADT_RESET_REG_SUP | FADT_HEADLESS,
        .reset = io_reg(RESET_PORT, 1, GAS_BYTE),
        .reset_value = RESET_VALUE,
        .minor_version = 3,
    };
    finish(&f->head, "FACP", sizeof(*f), 6);
}

static void fill_madt(struct madt *t)
{
    *t = (struct madt){
        .lapic_addr = LAPIC_BASE,
        .flags = MADT_PCAT_COMPAT,
        .lapic = {MADT_LAPIC, sizeof(t->lapic), 0, LAPIC_ID, LAPIC_ENABLED},
        .ioapic = {MADT_IOAPIC, sizeof(t->ioapic), IOAPIC_ID, 0, IOAPIC_BASE, 0},
        .override = {{MADT_OVERRIDE, sizeof(t->override[0]), 0, IRQ_PIT, GSI_PIT, INTI_CONFORMS},
                     {MADT_OVERRIDE, sizeof(t->override[1]), 0, IRQ_SCI, IRQ_SCI, INTI_LEVEL_HIGH}},
        .nmi = {MADT_LAPIC_NMI, sizeof(t->nmi), ALL_PROCESSORS, INTI_CONFORMS, LINT_NMI},
    };
    finish(&t->head, "APIC", sizeof(*t), 5);
}

static void put(struct machine *m, uint64_t addr, const void *data, size_t len)
{
    size_t done = mem_load(&m->mem, gpa(addr), data, len);
    CHECK(done == len, "ACPI table at 0x%" PRIx64 " left RAM", addr);
}

static void put_dsdt(struct machine *m, uint32_t addr)
{
    uint8_t aml[sizeof(dsdt_aml_code)];
    memcpy(aml, dsdt_aml_code, sizeof(aml));
    finish((struct sdt *)aml, "DSDT", sizeof(aml), 2);
    put(m, addr, aml, sizeof(aml));
}

static void put_rsdp(struct machine *m, uint32_t rsdt, uint32_t xsdt)
{
    struct rsdp r = {.signature = "RSD PTR ", .revision = 2, .rsdt = rsdt, .length = sizeof(r), .xsdt = xsdt};
    memcpy(r.oem_id, oem_id, sizeof(oem_id));
    r.checksum = checksum(&r, offsetof(struct rsdp, length));
    r.checksum_all = checksum(&r, sizeof(r));
    put(m, RSDP_BASE, &r, sizeof(r));
}

void acpi_install(struct machine *m)
{
    struct small_tables { /* everything but the DSDT, which follows */
        struct rsdt rsdt __attribute__((aligned(16)));
        struct xsdt xsdt __attribute__((aligned(16)));
        struct fadt fadt __attribute__((aligned(16)));
        struct madt madt __attribute__((aligned(16)));
    } t = {0};
    _Static_assert(sizeof(t) + sizeof(dsdt_aml_code) <= ACPI_TABLES_LEN, "ACPI_TABLES_LEN is too small");
    uint32_t base = (uint32_t)acpi_tables_base(&m->mem), facs_at = (uint32_t)acpi_nvs_base(&m->mem);
    uint32_t rsdt_at = base + offsetof(struct small_tables, rsdt), xsdt_at = base + offsetof(struct small_tables, xsdt);
    uint32_t fadt_at = base + offsetof(struct small_tables, fadt), madt_at = base + offsetof(struct small_tables, madt);
    uint32_t dsdt_at = base + sizeof(t);

    put_dsdt(m, dsdt_at);
    fill_fadt(&t.fadt, facs_at, dsdt_at);
    fill_madt(&t.madt);
    t.rsdt.fadt = fadt_at;
    t.rsdt.madt = madt_at;
    finish(&t.rsdt.head, "RSDT", sizeof(t.rsdt), 1);
    t.xsdt.fadt = fadt_at;
    t.xsdt.madt = madt_at;
    finish(&t.xsdt.head, "XSDT", sizeof(t.xsdt), 1);
    put(m, base, &t, sizeof(t));
    struct facs facs = {.signature = "FACS", .length = sizeof(facs), .version = 2};
    put(m, facs_at, &facs, sizeof(facs));
    put_rsdp(m, rsdt_at, xsdt_at);
}
