/* analysis/btf.h: a kernel's BTF type information (Documentation/bpf/btf.rst) as DWARF (version 4), which gdb reads. Private.
 *
 * BTF has all types of a kernel in a few MiB, and a kernel with CONFIG_DEBUG_INFO_BTF has it in memory. Of it come types,
 * not functions or variables: BTF does not say where those are. */
#ifndef HW_BTF_H
#define HW_BTF_H

#include "core/base/base.h"
#include "core/base/err.h"

enum { BTF_LEN_MAX = 64 << 20 };

struct btf_dwarf {
    uint8_t *info, *abbrev; /* .debug_info, one compilation unit; .debug_abbrev; free() with btf_dwarf_deinit() */
    size_t info_len, abbrev_len;
    char *str;              /* .debug_str */
    size_t str_len;
    size_t types;
};

/* `btf` may be anything: what refers to nothing becomes void, or has no name. Errors: ERR_UNSUPPORTED when it is no BTF, or
 * of a kind that is not known; ERR_HOST. */
must_check struct err *btf_to_dwarf(const uint8_t *btf, size_t len, struct btf_dwarf *out);
void btf_dwarf_deinit(struct btf_dwarf *d);

#endif
