/* core/cpu.h: the CPU model: x86-64-v3 with AES and PCLMULQDQ, the same on every host. Options add features.
 * A recording stores these bits; replay refuses a host that lacks one (cpu_host_features()). */
#ifndef HW_CPU_H
#define HW_CPU_H

#include "core/base/err.h"

/* Widths of addresses, CPUID leaf 0x80000008. 46 physical bits leave room for devices above 64 GiB of RAM. */
enum { VCPU_MAXPHYADDR = 46, VCPU_LINEAR_BITS = 48 };

enum cpu_feature {
    CPU_SHA = 1,           /* --cpu +sha */
    CPU_MITIGATED = 2,     /* --cpu +mitigations: hide ARCH_CAPABILITIES' NO bits, so that guests mitigate */
};

struct cpuid_result { uint32_t eax, ebx, ecx, edx; };
struct vcpu_state;

/* The model's CPUID (SDM vol. 2, CPUID), as a function of the leaf, the features and the state it reports
 * (OSXSAVE, XCR0 sizes, APIC id 0). Leaves beyond the maximum answer as the highest basic leaf does on Intel. */
struct cpuid_result cpu_cpuid(const struct vcpu_state *s, uint32_t features, uint32_t leaf, uint32_t subleaf);

/* ERR_UNSUPPORTED, naming the features, when this host cannot execute the model (exec runs FP on it). */
must_check struct err *cpu_check_host(uint32_t features);

/* Parse "+sha,+mitigations" / "-…". */
must_check struct err *cpu_parse_features(const char *text, uint32_t *out);

#endif
