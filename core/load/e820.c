/* core/load/e820.c: the memory map of the machine, in the shape PC firmware reports it.
 *
 *   0        9fc00     a0000        f0000     100000            low-4p  low-1p     low       4G        4G+rest
 *   | RAM     | EBDA    | (VGA hole) | BIOS    | RAM             | ACPI  | NVS      | (none)  | RAM     |
 *
 * The holes are RAM of the machine all the same; a guest that looks there without being told sees zeros. */
#include "core/load/load.h"

static void add(struct e820_map *map, uint64_t start, uint64_t end, enum e820_type type)
{
    if (start < end)
        map->e[map->count++] = (struct e820_entry){start, end - start, type};
}

struct err *e820_build(const struct mem *mem, struct e820_map *out)
{
    uint64_t least = HIGH_BASE + ACPI_TABLES_LEN + ACPI_NVS_LEN + PAGE_SIZE;
    if (mem->low_len < least)
        return err_new(ERR_INPUT,
                       "%" PRIu64 " KiB of RAM are too little to boot a kernel; give at least 2 MiB (--memory)",
                       mem->low_len >> 10);
    uint64_t tables = acpi_tables_base(mem), nvs = acpi_nvs_base(mem);
    out->count = 0;
    add(out, 0, EBDA_BASE, E820_RAM);
    add(out, EBDA_BASE, 0xa0000, E820_RESERVED);
    add(out, BIOS_BASE, HIGH_BASE, E820_RESERVED);
    add(out, HIGH_BASE, tables, E820_RAM);
    add(out, tables, nvs, E820_ACPI);
    add(out, nvs, mem->low_len, E820_NVS);
    add(out, GIB(4), GIB(4) + (mem->ram_len - mem->low_len), E820_RAM);
    return NULL;
}
