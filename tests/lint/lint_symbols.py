#!/usr/bin/env python3
"""What the built libraries refer to: the libraries below them in the table of folders, and of the host's functions
only those named here. core/ and exec/ must not reach a clock, a random source or a file of the host (the
determinism law), and what a static library refers to cannot be hidden behind a macro or a header.

usage: lint_symbols.py BUILD_DIR
"""
import fnmatch
import os
import re
import subprocess
import sys

# library: the libraries whose symbols it may use.
ROWS = {
    "hw_base": [],
    "hw_core": ["hw_base"],
    "hw_logfmt": ["hw_base"],
    "hw_exec": ["hw_core", "hw_base"],
    "hw_replay": ["hw_exec", "hw_core", "hw_logfmt", "hw_base"],
    "hw_analysis": ["hw_base"],
    "hw_gdb": ["hw_replay", "hw_analysis", "hw_base"],
}

# Host functions that the deterministic part may call: pattern, libraries, why it is harmless. Anything else fails.
ALL = ("hw_base", "hw_core", "hw_exec")
HOST_FUNCTIONS = [
    ("mem[cmrs]*", ALL, "memcpy, memmove, memset and so on: functions of their arguments"),
    ("str*", ALL, "a function of its arguments; strerror only words a message"),
    ("__isoc99_sscanf", ALL, "a function of its arguments"),
    ("*snprintf", ALL, "a function of its arguments"),
    ("*asprintf", ALL, "a function of its arguments; memory as malloc"),
    ("qsort", ALL, "callers have no two equal elements, so the order is unique"),
    ("bsearch", ALL, "a function of its arguments"),
    ("malloc", ALL, "addresses never reach the guest or an order the guest sees"),
    ("calloc", ALL, "as malloc"),
    ("realloc", ALL, "as malloc"),
    ("reallocarray", ALL, "as malloc"),
    ("aligned_alloc", ALL, "as malloc"),
    ("posix_memalign", ALL, "as malloc"),
    ("free", ALL, "as malloc"),
    ("mmap", ("hw_base", "hw_exec"), "anonymous memory: guest RAM, thunks"),
    ("munmap", ("hw_base", "hw_exec"), "as mmap"),
    ("mprotect", ("hw_base",), "as mmap"),
    ("mremap", ("hw_base",), "code, mapped writable here and executable there; nothing reads it"),
    ("arch_prctl", ("hw_exec",), "sets the host's GS base, which no guest sees"),
    ("getauxval", ("hw_exec",), "whether the host has an instruction that does the same"),
    ("sigaction", ("hw_exec",), "faults of thunks, which are functions of the guest's registers"),
    ("sigemptyset", ("hw_exec",), "as sigaction"),
    ("pthread_mutex_*lock", ("hw_exec",), "machines of one process share the thunks, which depend on the bytes alone"),
    ("pthread_create", ("hw_logfmt",), "packs and writes a checkpoint: the file's bytes are the same without"),
    ("pthread_join", ("hw_logfmt",), "as pthread_create"),
    ("pthread_sigmask", ("hw_logfmt",), "as pthread_create"),
    ("sigfillset", ("hw_logfmt",), "as pthread_create"),
    ("_setjmp", ("hw_exec",), "a faulting instruction is left here"),
    ("longjmp", ("hw_exec",), "as _setjmp"),
    ("madvise", ("hw_base", "hw_core", "hw_exec"), "pages stay zero until written, with or without it"),
    ("abort", ALL, "CHECK: a run that ends here has no later state"),
    ("__assert_fail", ALL, "as abort"),
    ("*printf", ("hw_base",), "CHECK and err print on standard error"),
    ("fput*", ("hw_base",), "as fprintf"),
    ("fwrite", ("hw_base",), "as fprintf"),
    ("fflush", ("hw_base",), "as fprintf"),
    ("stderr", ("hw_base",), "as fprintf"),
    ("__errno_location", ALL, "why mmap failed, for a message"),
    ("elf_*", ("hw_core",), "libelf on bytes in memory"),
    ("elf32_*", ("hw_core",), "as elf_*"),
    ("elf64_*", ("hw_core",), "as elf_*"),
    ("gelf_*", ("hw_core",), "as elf_*"),
    ("Zy*", ("hw_exec",), "the decoder: a function of its arguments"),
    ("XXH*", ("hw_base",), "a function of its arguments"),
    ("__stack_chk_fail", ALL, "the compiler's"),
    ("_GLOBAL_OFFSET_TABLE_", ALL, "the compiler's"),
    ("__popcount*", ALL, "the compiler's"),
    ("__udivti3", ALL, "the compiler's 128-bit arithmetic"),
    ("__umodti3", ALL, "the compiler's 128-bit arithmetic"),
    ("__divti3", ALL, "the compiler's 128-bit arithmetic"),
    ("__modti3", ALL, "the compiler's 128-bit arithmetic"),
]

# Instructions that read what the log does not hold, and the objects that may contain them.
FORBIDDEN_INSTRUCTIONS = re.compile(r"\t(rdtsc|rdtscp|rdrand|rdseed|rdpmc|cpuid|rdpid|syscall|sysenter|int +\$0x80)\b")
INSTRUCTION_EXCEPTIONS = {
    ("host.c.o", "cpuid"): "the check at start that this host has what the CPU model promises",
    ("host_thunk.c.o", "cpuid"): "serialises after code was rewritten; its results are not looked at",
}


def nm(build, library):
    """Symbols of lib<library>.a: those it defines for others, and those it lacks, with the objects that ask."""
    path = os.path.join(build, f"lib{library}.a")
    lines = subprocess.run(["nm", "-A", "--format=posix", path], capture_output=True, text=True, check=True).stdout
    defined, undefined = set(), {}
    for line in lines.splitlines():
        match = re.match(r".*\[(.*)\]: (\S+) (\S)", line)
        if not match:
            continue
        member, symbol, kind = match.groups()
        if kind in "Uw":
            undefined.setdefault(symbol, member)
        elif kind.isupper():
            defined.add(symbol)
    return defined, undefined


def host_function_allowed(library, symbol):
    return any(library in libraries and fnmatch.fnmatchcase(symbol, pattern)
               for pattern, libraries, _ in HOST_FUNCTIONS)


def check_symbols(build):
    problems = []
    tables = {library: nm(build, library) for library in ROWS}
    for library, (defined, undefined) in tables.items():
        for symbol, member in sorted(undefined.items()):
            owner = next((l for l in ROWS if symbol in tables[l][0]), None)
            if symbol in defined or owner in ROWS[library]:
                continue
            if owner:
                problems.append(f"{member}: {library} may not use {symbol} of {owner}")
            elif library in ALL and not host_function_allowed(library, symbol):
                problems.append(f"{member}: {library} may not call {symbol}; if it can reach neither clock, nor random "
                                "source, nor file, add it to HOST_FUNCTIONS with the reason")
    return problems


def check_instructions(build):
    problems = []
    for library in ALL:
        path = os.path.join(build, f"lib{library}.a")
        text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path],
                              capture_output=True, text=True, check=True).stdout
        member = function = "?"
        for line in text.splitlines():
            if line.endswith("file format elf64-x86-64"):
                member = line.split(":")[0]
            elif line.endswith(">:"):
                function = line.split("<")[1][:-2]
            else:
                match = FORBIDDEN_INSTRUCTIONS.search(line)
                if match and (member, match.group(1)) not in INSTRUCTION_EXCEPTIONS:
                    problems.append(f"{member}: {function} executes {match.group(1)} on the host")
    return problems


def main():
    problems = check_symbols(sys.argv[1]) + check_instructions(sys.argv[1])
    print("\n".join(problems))
    print(f"{len(ROWS)} libraries: {len(problems)} problems")
    return 1 if problems else 0


sys.exit(main())
