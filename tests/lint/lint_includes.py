#!/usr/bin/env python3
"""Include rules: who may include whom (docs/architecture.md, the table of folders), and each header compiles alone.

usage: lint_includes.py SOURCE_DIR [GENERATED_DIR]
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

# folder: what its files may include besides the folder itself and libc. A folder ends in '/', a file does not.
ROWS = {
    "core/base/": [],
    "logfmt/": ["core/base/"],
    "core/": ["core/base/"],
    "exec/": ["core/", "core/base/"],
    "replay/": ["core/", "core/base/", "logfmt/", "exec/engine.h"],
    "gdb/": ["core/base/", "core/cpu.h", "replay/timeline.h", "replay/position.h", "replay/options.h",
             "analysis/ksyms.h"],
    "analysis/": ["core/base/", "logfmt/", "exec/x86/insn.h", "replay/timeline.h"],
}

# Headers of other libraries, by the folders that may know them. Any other <header> must be libc's.
LIBRARIES = {
    r"Zydis/|Zycore/": ["exec/", "analysis/"],
    r"zstd\.h": ["logfmt/", "replay/"],
    r"xxhash\.h": ["core/base/", "logfmt/"],
    r"g?elf\.h|libelf\.h": ["core/", "gdb/", "analysis/"],
}

# Made by the build.
GENERATED = ["dsdt.hex", "hyperwind_py.hex"]

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)
FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-fsyntax-only", "-x", "c"]


def row_of(path):
    """The longest row that contains path: core/base/err.h belongs to core/base/, not to core/."""
    rows = [row for row in ROWS if path.startswith(row)]
    return max(rows, key=len) if rows else None


def allowed(row, target):
    if row_of(target) == row:
        return True
    return any(target == rule or (rule.endswith("/") and row_of(target) == rule) for rule in ROWS[row])


def check_include(source, path, line, quoted, angled):
    row = row_of(path)
    where = f"{path}:{line}"
    if angled:
        for pattern, rows in LIBRARIES.items():
            if re.match(pattern, angled) and row not in rows:
                return f"{where}: <{angled}> is for {', '.join(rows)} only"
        return None
    if quoted in GENERATED:
        return None
    if not os.path.exists(os.path.join(source, quoted)):
        return f"{where}: \"{quoted}\" is not a path from the root of the tree"
    if not allowed(row, quoted):
        return f"{where}: {row} may not include \"{quoted}\""
    return None


def sources(source):
    for row in ("core", "logfmt", "exec", "replay", "gdb", "analysis"):
        for folder, dirs, files in os.walk(os.path.join(source, row)):
            dirs.sort()
            for name in sorted(files):
                if name.endswith((".c", ".h", ".def", ".inc")):
                    yield os.path.relpath(os.path.join(folder, name), source)


def compile_alone(compiler, source, generated, header):
    """A header twice in a file of its own: it needs nothing before it and tolerates itself."""
    text = f'#include "{header}"\n#include "{header}"\n'
    command = [compiler, *FLAGS, "-DHW_VERSION=\"0\"", "-I", source, *generated, "-"]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return None if run.returncode == 0 else f"{header}: does not compile alone with {compiler}\n{run.stderr}"


def main():
    source = os.path.abspath(sys.argv[1])
    generated = ["-I", sys.argv[2]] if len(sys.argv) > 2 else []
    paths = list(sources(source))
    problems = []
    for path in paths:
        with open(os.path.join(source, path), encoding="utf-8") as f:
            text = f.read()
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            problems.append(check_include(source, path, line, match.group(1), match.group(2)))

    compilers = [c for c in ("gcc", "clang") if shutil.which(c)]
    headers = [path for path in paths if path.endswith(".h")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compile_alone, c, source, generated, h) for c in compilers for h in headers]
        problems += [job.result() for job in jobs]

    problems = [p for p in problems if p]
    print("\n".join(problems))
    print(f"{len(paths)} files, {len(headers)} headers with {' and '.join(compilers)}: {len(problems)} problems")
    return 1 if problems or not paths or not compilers else 0


sys.exit(main())
