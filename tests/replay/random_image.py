"""Random guest programs as images: random_program.py's, assembled and linked with random.c."""
import os
import shutil
import subprocess

from hwtest import Skip, path
from random_program import Program

RIG_DIR = os.environ["HW_SMALL_GUEST_DIR"]
LINKER_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest", "guest.ld")


def assembled(seed, bits):
    """The image of a program."""
    if not shutil.which("as") or not shutil.which("ld"):
        raise Skip("no assembler, or no linker")
    source, code, image = path("program.S"), path("program.o"), path("program.bin")
    with open(source, "w", encoding="ascii") as f:
        f.write(Program(seed, bits).text())
    subprocess.run(["as", f"--{bits}", "-o", code, source], check=True)
    subprocess.run(["ld", "-m", {64: "elf_x86_64", 32: "elf_i386"}[bits], "--oformat", "binary", "-T", LINKER_SCRIPT,
                    "-o", image, os.path.join(RIG_DIR, f"random{bits}.o"), code], check=True, stderr=subprocess.DEVNULL)
    return image
