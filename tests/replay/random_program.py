"""Random guest programs, as text for the assembler: see test_random.py. random.c runs them, and says what their memory is.

usage: random_program.py SEED BITS          to look at one

fuzz() calls each of its functions some dozens of times. A function is a random sequence of statements, some of them loops,
jumps and calls. Registers: BX points into the data pages, BP counts the calls, in 64-bit mode R15 points to the window;
all else is free. A function has a frame: FRAME bytes for anything, above them counters of its loops."""
import random
import sys

FRAME = 64
PAGE = 4096
CONDITIONS = "o no b ae e ne be a s ns p np l ge le g".split()
FUNCTIONS, LEAVES = 36, 8
CODE_PAGE, CODE_PAGES, DATA_PAGES, ALIAS_PAGE, ALIAS_PAGES = 96, 17, 12, 120, 8

# What is there in all sizes, with its weight: two operands, of which the second may be memory or a constant; one operand.
BINARY = "add add sub sub and or xor cmp cmp cmp test adc sbb mov mov".split()
UNARY = "inc dec neg not inc dec".split()
SHIFTS = "shl shr sar rol ror rcl rcr".split()

X87 = ("flds fldl fldt fsts fstl fstps fstpl fstpt fadds faddl fmull fdivs fcoms fcompl filds fildl fildll fists fistl fistps "
       "fistpl fistpll fisttpll fiadds fimull ficoms fbld fbstp").split()
X87_PLAIN = ("fld1 fldz fldpi fabs fchs fxam ftst fsqrt frndint fscale fincstp fdecstp fnop fprem fxtract fcompp faddp fmulp "
             "fdivrp fsin fpatan").split()
X87_REGISTER = "fadd fmul fsub fdivr fxch fcom fcomp fucom fld fst fstp ffree fcmovb fcmovne fcomi fucomip".split()
SSE = ("movups addps mulps subpd xorps andps unpcklps sqrtpd maxps cmpeqps paddd psubb pmulld pshufb pxor pcmpeqd punpcklbw "
       "pmaddwd cvtdq2ps cvttps2dq").split()


class Program:
    def __init__(self, seed, bits):
        self.rng, self.bits = random.Random(seed), bits
        self.lines, self.labels = [], 0
        self.word = "r" if bits == 64 else "e"
        self.sizes = [1, 2, 4, 4, 8, 8] if bits == 64 else [1, 2, 4, 4, 4]
        names = ["ax", "cx", "dx", "si", "di"]
        self.free = names + ([f"r{i}" for i in range(8, 15)] if bits == 64 else [])
        self.leaf = False
        self.depth = 0  # of loops

    # ---- operands ----

    def pick(self, *choices):
        return self.rng.choice(choices)

    def chance(self, p):
        return self.rng.random() < p

    def label(self):
        self.labels += 1
        return f"L{self.labels}"

    def emit(self, *lines):
        self.lines += [f"    {line}" for line in lines]

    def place(self, label):
        self.lines.append(f"{label}:")

    def name(self, reg, size):
        """A register by the name of its 16 bits, or r8 .. r14."""
        if reg[0] == "r":
            return f"%{reg}" + {1: "b", 2: "w", 4: "d", 8: ""}[size]
        if size == 1:
            return f"%{reg[0]}l" if reg[1] == "x" else f"%{reg}l"
        return {2: f"%{reg}", 4: f"%e{reg}", 8: f"%r{reg}"}[size]

    def reg(self, size):
        return self.name(self.pick(*(self.free[:3] if size == 1 and self.bits == 32 else self.free)), size)

    def full(self, reg=None):
        return self.name(reg or self.pick(*self.free), self.bits // 8)

    def here(self, symbol):
        """The operand for memory of the program itself."""
        return f"{symbol}(%rip)" if self.bits == 64 else symbol

    def memory(self):
        kind = self.rng.random()
        if kind < .2:
            return f"{self.rng.randrange(0, FRAME - 16)}(%{self.word}sp)"
        if kind < .27:
            return self.here(f"{self.pick('beside', 'inside')}{self.rng.randrange(FUNCTIONS)} + {self.rng.randrange(16)}")
        at = self.pick(0, 0, 16, 64, 100, PAGE - 8, PAGE - 3, PAGE - 1, 2 * PAGE - 6, 3 * PAGE - 15, 10000)
        if kind < .4:
            index = self.pick(*self.free[:5])
            self.emit(f"and ${self.pick(7, 63, 0xfff)}, {self.name(index, 4)}")
            return f"{at}(%{self.word}bx,{self.full(index)},{self.pick(1, 2, 4)})"
        return f"{at + 8 * self.rng.randrange(4)}(%{self.word}bx)"

    def constant(self, size):
        x = self.pick(0, 1, 2, -1, 0x7f, -0x80, self.rng.randrange(-1 << 31, 1 << 31))
        half = 1 << 8 * min(size, 4) - 1
        return f"${(x + half) % (2 * half) - half}"

    # ---- statements that go on behind themselves ----

    def binary(self):
        size = self.pick(*self.sizes)
        op, kind, suffix = self.pick(*BINARY), self.rng.random(), {1: "b", 2: "w", 4: "l", 8: "q"}[size]
        if kind < .3:
            self.emit(f"{op}{suffix} {self.reg(size)}, {self.reg(size)}")
        elif kind < .5:
            self.emit(f"{op}{suffix} {self.constant(size)}, {self.reg(size)}")
        elif kind < .75:
            place, reg = self.memory(), self.reg(size)
            lock = "lock " if op in ("add", "sub", "and", "or", "xor", "adc", "sbb") and self.chance(.1) else ""
            self.emit(f"{lock}{op}{suffix} {reg}, {place}")
        elif kind < .9:
            place = self.memory()
            self.emit(f"{op}{suffix} {place}, {self.reg(size)}" if op != "test" else f"test{suffix} {self.reg(size)}, {place}")
        else:
            place = self.memory()
            self.emit(f"{op}{suffix} {self.constant(size)}, {place}")

    def unary(self):
        size = self.pick(*self.sizes)
        suffix = {1: "b", 2: "w", 4: "l", 8: "q"}[size]
        where = self.reg(size) if self.chance(.7) else self.memory()
        kind = self.rng.random()
        if kind < .5:
            self.emit(f"{self.pick(*UNARY)}{suffix} {where}")
        elif kind < .8:
            self.emit(f"{self.pick(*SHIFTS)}{suffix} ${self.pick(0, 1, 1, 3, 7, 31, 33)}, {where}")
        else:
            self.emit(f"{self.pick(*SHIFTS)}{suffix} %cl, {where}")

    def various(self):
        """What reads flags, and what is rarer."""
        size = self.pick(*self.sizes[1:])
        a, b, wide = self.reg(size), self.reg(size), self.full()
        cc = self.pick(*CONDITIONS)
        place = self.memory()
        suffix = {2: "w", 4: "l", 8: "q"}[size]
        low = self.name(self.pick("ax", "cx", "dx"), 1)
        self.emit(self.pick(
            f"set{cc} {low}", f"set{cc} {place}", f"cmov{cc} {a}, {b}", f"cmov{cc} {place}, {b}",
            f"imul {a}, {b}", f"imul $77, {a}, {b}", f"mul{suffix} {place}", f"imul {a}", f"shld $5, {a}, {b}", f"shrd %cl, {a}, {b}",
            f"bt {a}, {b}", f"bts $5, {a}", f"btr{suffix} $3, {place}", f"bsf {a}, {b}", f"bsr {a}, {b}", f"popcnt {a}, {b}",
            f"xchg {a}, {b}", f"xchg {a}, {place}", f"xadd {a}, {b}", f"lock xadd {a}, {place}",
            f"cmpxchg {a}, {b}", f"lock cmpxchg {a}, {place}", f"bswap {wide}", "cwtl", "cltd", "lahf", "sahf", "cmc", "stc",
            "clc", "xchg %ah, %al", "add %ch, %dl", "mov %dh, %ah", "movzbl %ah, %ecx", "cmp $5, %ch",
            f"movzb{'lqw'[[4, 8, 2].index(size)]} {place}, {a}", f"movsb{'lqw'[[4, 8, 2].index(size)]} {low}, {a}",
            f"lea {self.rng.randrange(-99, 99)}({wide},{self.full()},4), {self.full()}", "rdtsc", "nop", f"mov %fs, {a}", "xor %eax, %eax"))

    def divide(self):
        wide = "r" if self.bits == 64 and self.chance(.3) else "e"
        if self.chance(.8):
            self.emit("xor %edx, %edx", "or $3, %ecx")
        self.emit(f"{self.pick('div', 'idiv')} %{wide}cx")

    def flags_word(self):
        """Flags through memory: arithmetic ones, IF kept."""
        full = self.full("ax")
        if self.chance(.5):
            self.emit("pushf", f"pop {full}", f"mov %eax, {self.memory_plain()}")
        else:
            self.emit("pushf", f"pop {full}", "xor %ecx, %eax", "and $0x8d5, %eax", "or $0x202, %eax", f"push {full}", "popf")

    def pointer(self):
        """Accesses by a register that changes between them."""
        reg = self.pick("bx", *self.free[3:])
        full, moved = self.full(reg), 0
        if reg != "bx":
            self.emit(f"lea {self.pick(0, 64, PAGE - 40, PAGE + 9)}(%{self.word}bx), {full}")
        for _ in range(self.rng.randrange(3, 8)):
            size = self.pick(*self.sizes)
            other = self.name(self.pick("ax", "cx", "dx"), size)
            place = f"{8 * self.rng.randrange(-3, 12)}({full})"
            self.emit(self.pick(f"mov {other}, {place}", f"mov {place}, {other}", f"add {other}, {place}", f"xor {place}, {other}"))
            if self.chance(.4):
                by = self.pick(1, 8, 8, 24, -8, 100)
                moved += by
                self.emit(self.pick(f"add ${by}, {full}", f"sub ${-by}, {full}", f"lea {by}({full}), {full}"))
        if reg == "bx":
            self.emit(f"lea {-moved}({full}), {full}")

    def by_segment(self):
        base = self.full(self.pick(*self.free[:5]))
        self.emit(f"lea {self.pick(0, 8, PAGE - 20)}(%rbx), {base}", f"wr{self.pick('fs', 'fs', 'gs')}base {base}")
        for _ in range(self.rng.randrange(1, 4)):
            place = f"%{self.pick('fs', 'gs')}:{8 * self.rng.randrange(4)}"
            self.emit(self.pick(f"mov {self.reg(4)}, {place}", f"mov {place}, {self.reg(8)}", f"addl $5, {place}"))

    def bits_of_memory(self):
        """Bit strings: the word may lie anywhere, or in a page that is not there."""
        size = self.pick(4, *self.sizes[4:])
        index, suffix, full = self.reg(size), {4: "l", 8: "q"}[size], self.full()
        self.emit(self.pick(f"movb ${self.rng.randrange(128)}, {self.memory_plain()}", f"mov {full}, {self.memory_plain()}"),
                  f"{self.pick('and $0x7fff', 'and $63', 'mov $' + str(8 * PAGE), 'mov $-9')}, {index}",
                  *self.pick((f"inc {full}",), ("dec %ecx", f"and $0xffff, {index}"), ()),
                  f"{self.pick('bt', 'bts', 'lock btr', 'btc', 'bt')}{suffix} {index}, {self.pick(16, 64, PAGE)}(%{self.word}bx)",
                  *self.pick(("xor %eax, %eax",), (f"setc {self.name('dx', 1)}",), ()))

    def shift_chain(self):
        """Flags of shifts and of the stack pointer's changes that are read late, behind accesses and jumps."""
        word, size = self.word, self.pick(*self.sizes)
        suffix = {1: "b", 2: "w", 4: "l", 8: "q"}[size]
        count = self.pick(1, 1, 2, 5, 7, 9, 15, 31, 8 * size - 1)
        step = self.pick(8, 16, 24)
        self.emit(*self.pick((f"{self.pick('shl', 'shr', 'sar')}{suffix} ${count}, {self.reg(size)}",),
                             (f"sub ${step}, %{word}sp", f"add ${step}, %{word}sp"),
                             (f"cmp ${self.pick(-128, -1, 0, 1, 127, 128)}, {self.reg(self.pick(2, 4))}",),
                             (f"cmp %{word}sp, {self.full()}",), (f"cmp {self.full()}, %{word}sp",),
                             (f"test %{word}sp, %{word}sp",)))
        pushed = 0
        for _ in range(self.rng.randrange(1, 5)):
            what = self.rng.randrange(6)
            if what == 0:
                self.emit(f"push {self.full()}")
                pushed += 1
            elif what == 1 and pushed:
                self.emit(f"pop {self.full()}")
                pushed -= 1
            elif what == 2:
                self.emit(f"mov {self.full()}, {self.memory_plain()}")
            elif what == 3:
                self.emit(f"{self.pick('inc', 'dec')}{suffix} {self.reg(size)}")
            elif what == 4:
                self.emit(f"set{self.pick(*CONDITIONS)} {self.memory_plain()}")
        for _ in range(pushed):
            self.emit(f"pop {self.full()}")
        end = self.label()
        self.emit(self.pick(f"set{self.pick(*CONDITIONS)} %al", "adc %edx, %ecx", f"j{self.pick(*CONDITIONS)} {end}", "lahf",
                            f"cmov{self.pick(*CONDITIONS)} %esi, %edi", "rcl $1, %eax"))
        self.place(end)

    def push_memory(self):
        """Words pushed from memory, between others that are checked together."""
        regs = self.rng.randrange(1, 4)
        for _ in range(regs):
            self.emit(f"push{'q' if self.bits == 64 else 'l'} {self.pick(self.memory, self.memory_plain)()}",
                      *self.pick((), (f"push {self.full()}", f"pop {self.full()}")))
        for _ in range(regs):
            self.emit(f"pop {self.full()}")

    def leave(self):
        """LEAVE, whose word may be in a page that is not there. Not at CPL 0, where an interrupt would use the stack."""
        done, word = self.label(), self.word
        save = self.full("di")
        self.emit("mov %cs, %eax", "test $3, %al", f"jz {done}", f"push %{word}bp", f"mov %{word}sp, {save}",
                  f"lea {self.pick(64, PAGE - 4, 2 * PAGE + 16, 5 * PAGE)}(%{word}bx), %{word}bp", "add %ecx, %edx",
                  *self.pick(("inc %ecx",), ("dec %edx",), ("shl $3, %edx",), ()), "leave",
                  self.pick("xor %eax, %eax", "setc %al", "add $4, %ecx"), f"mov {save}, %{word}sp", f"pop %{word}bp")
        self.place(done)

    def tight_loop(self):
        """A loop of one block, whose first instruction may read flags that its last ones leave."""
        begin, reg, word = self.label(), self.full(self.pick("si", "di")), self.word
        first = ("adc %edx, %eax", "sbb $3, %eax", "setc %al", "cmovo %edx, %eax", "rcr $1, %edx",
                 f"set{self.pick(*CONDITIONS)} %dl", "inc %eax", "adc $0, %dl", f"mov %eax, 8({reg})", f"add ({reg}), %eax",
                 f"lea 8({reg}), {reg}", "nop")
        body = (*first, f"mov ({reg}), %edx", f"mov %edx, 16({reg})", f"add $8, {reg}", "addps %xmm1, %xmm2",
                "paddd %xmm2, %xmm3", f"movups ({reg}), %xmm1", f"movups %xmm3, 24({reg})", "fld1", "fstp %st(0)", "fnop",
                "cmp $7, %eax", "shl $1, %eax", "shr $3, %edx", "xor %edx, %eax", "test %eax, %eax", "cmp %edx, %eax",
                "sar $31, %edx")
        self.emit(f"lea {self.pick(0, 64, PAGE - 30, 2 * PAGE - 100)}(%{word}bx), {reg}",
                  f"mov ${self.pick(2, 5, 40, 300)}, %ecx")
        inside = [self.pick(*body) for _ in range(self.rng.randrange(0, 5))]
        if self.chance(.3):
            inside += [f"push %{word}ax", f"pop %{word}dx"]
        self.place(begin)
        self.emit(self.pick(*first), *inside)
        end = self.label()
        how = self.rng.randrange(4)
        if how == 0:
            self.emit("dec %ecx", f"jnz {begin}")
        elif how == 1:
            self.emit("sub $1, %ecx", f"ja {begin}")
        elif how == 2:
            self.emit(f"lea -1(%{word}cx), %{word}cx", "cmp $0, %ecx", f"jg {begin}")
        else:
            self.emit("dec %ecx", f"jz {end}", f"jmp {begin}")
        self.place(end)

    def aligned(self):
        """Vectors that must be aligned, among accesses near the same register; #GP steps over them: see random.c."""
        reg = f"%{self.word}{self.pick('bx', 'bx', 'si')}"
        if reg[-2:] == "si":
            self.emit(f"lea {self.pick(0, 8, 16, 64, PAGE - 32)}(%{self.word}bx), {reg}")
        for _ in range(self.rng.randrange(2, 6)):
            place = f"{16 * self.rng.randrange(0, 8) + self.pick(0, 0, 0, 0, 0, 8, 1)}({reg})"
            xmm = f"%xmm{self.rng.randrange(8)}"
            aligned = f"{{disp32}} {self.pick('movaps', 'addps', 'pxor', 'paddd', 'andps', 'movdqa')} {place}, {xmm}"
            self.emit(self.pick(aligned, aligned, f"{{disp32}} {self.pick('movaps', 'movdqa', 'movntps')} {xmm}, {place}",
                                f"mov {self.pick('%eax', '%edx')}, {place}", f"add {place}, %edx", f"movups {place}, {xmm}",
                                "inc %eax",
                                f"add $16, {reg}" if reg[-2:] == "si" else "inc %edx"))

    def to_nowhere(self):
        """Returns, jumps and calls to address 0, where random.c has a RET, or nothing."""
        word, cx, back = self.full("dx"), self.full("cx"), self.label()
        self.emit(*self.pick(("xor %edx, %edx", f"call *{word}"),
                             ("xor %edx, %edx", f"lea {self.here(back)}, {cx}", f"push {cx}", f"push {word}", "ret"),
                             ("xor %edx, %edx", f"lea {self.here(back)}, {cx}", f"push {cx}", f"jmp *{word}"),
                             (f"lea {self.here(back)}, {cx}", f"push {cx}", f"push{'q' if self.bits == 64 else 'l'} $0", "ret")))
        self.place(back)

    def memory_plain(self):
        return f"{self.rng.randrange(0, PAGE - 8)}(%{self.word}bx)"

    def stack(self):
        regs = [self.full() for _ in range(self.rng.randrange(1, 4))]
        self.emit(*(f"push {r}" for r in regs))
        for _ in range(self.rng.randrange(3)):
            self.pick(self.binary, self.unary, self.various)()
        if self.chance(.2):
            self.emit(f"push {self.constant(4)}", f"pop{'q' if self.bits == 64 else 'l'} {self.memory_plain()}")
        self.emit(*(f"pop {self.full()}" for _ in regs))

    def string(self):
        data = lambda: self.pick(0, 5, 64, 4000, PAGE - 1, PAGE - 64, 2 * PAGE - 9)  # noqa: E731
        unit, n = self.pick("b", "w", "l", *("q" if self.bits == 64 else "")), self.pick(0, 1, 2, 7, 40, 100, 700)
        word = self.word
        down = self.chance(.15)
        self.emit(f"lea {data() + (2 * PAGE if down else 0)}(%{word}bx), %{word}di",
                  f"lea {data() + self.pick(0, 1, 8, PAGE) + (2 * PAGE if down else 0)}(%{word}bx), %{word}si")
        if down:
            n = min(n, 100)
            self.emit("std")
        if self.chance(.7):
            rep = self.pick("rep movs", "rep stos", "rep lods", "repe cmps", "repne cmps", "repne scas", "repe scas")
            self.emit(f"mov ${n}, %ecx", rep + unit)
        else:
            self.emit(self.pick("movs", "stos", "lods", "cmps", "scas") + unit)
        if down:
            self.emit("cld")

    def x87(self):
        for _ in range(self.rng.randrange(1, 6)):
            kind = self.rng.random()
            if kind < .35:
                self.emit(f"{self.pick(*X87)} {self.memory()}")
            elif kind < .6:
                self.emit(self.pick(*X87_PLAIN))
            elif kind < .85:
                op = self.pick(*X87_REGISTER)
                self.emit(f"{op} %st({self.rng.randrange(8)})" + (", %st" if op[:4] in ("fcmo", "fcom", "fuco") and op[-1] != "p"
                                                                   and op not in ("fcom", "fucom") or op == "fucomip" else ""))
            else:
                self.emit(*self.pick(("fnstsw %ax",), (f"fnstcw {self.memory()}",), (f"fxsave {self.here('fx_area')}",),
                                     (f"fxsave {self.here('fx_area')}", f"fxrstor {self.here('fx_area')}"), ("fninit",),
                                     (f"movw ${self.pick('0x37f', '0x27f', '0xf7f', '0x7f')}, {self.here('fx_word')}",
                                      f"fldcw {self.here('fx_word')}"), ("fnclex",), ("emms",),
                                     ("movd %ecx, %mm1", "paddb %mm1, %mm2", "movd %mm2, %edx")))

    def vector(self):
        xmm = lambda: f"%xmm{self.rng.randrange(16 if self.bits == 64 else 8)}"  # noqa: E731
        for _ in range(self.rng.randrange(1, 6)):
            kind = self.rng.random()
            if kind < .5:
                self.emit(f"{self.pick(*SSE)} {xmm()}, {xmm()}")
            elif kind < .6:
                self.emit(f"movups {self.memory()}, {xmm()}")
            elif kind < .7:
                self.emit(f"{self.pick('movups', 'movlps', 'movss')} {xmm()}, {self.memory()}")
            elif kind < .8:
                self.emit(*self.pick((f"cvtsi2sd %ecx, {xmm()}",), (f"cvttsd2si {xmm()}, %edx",), (f"pmovmskb {xmm()}, %eax",),
                                     (f"movd %esi, {xmm()}",), (f"movd {xmm()}, %edi",)))
            elif kind < .9:
                self.emit(f"{self.pick('ucomisd', 'comiss')} {xmm()}, {xmm()}")
            else:
                self.emit(f"v{self.pick('addps', 'pxor', 'pand', 'subpd')} {xmm()}, {xmm()}, {xmm()}")

    def system(self):
        user_too = ["cpuid_", "int3", "int $0x30", "rdtsc", "mov %cs, %eax", "str %ecx", "step_", "fninit"]
        if self.bits == 64:
            user_too += ["mov %ss, %ecx", "xgetbv_"]
        what = self.pick(*user_too)
        bx = f"%{self.word}bx"
        if what == "cpuid_":
            self.emit(f"push {bx}", f"mov ${self.pick(0, 1, 7, '0x80000001')}, %eax", "xor %ecx, %ecx", "cpuid",
                      "add %ebx, %eax", f"pop {bx}")
        elif what == "xgetbv_":
            self.emit("xor %ecx, %ecx", "xgetbv")
        elif what == "int $0x30":
            self.emit("xor %eax, %eax", what)
        elif what == "step_":  # a few instructions by TF
            self.emit("pushf", f"orl $0x100, (%{self.word}sp)", "popf")
            self.pick(self.binary, self.unary)()
            self.emit("pushf", f"andl $~0x100, (%{self.word}sp)", "popf")
        else:
            self.emit(what)

    def privileged(self):
        """What differs between CPL 0 and 3: one or the other."""
        if self.chance(.2):  # at CPL 3 #GP, which is stepped over with 4 bytes behind it
            self.emit("add %ecx, %edx", *self.pick((), ("inc %esi",), ("dec %esi",)), ".byte 0x0f, 0x20, 0xc0",
                      "mov %esi, %esi", "mov %edi, %edi", self.pick("xor %edx, %edx", "adc %edx, %edx"))
        user, done = self.label(), self.label()
        self.emit("mov %cs, %eax", "test $3, %al", f"jnz {user}")
        kind = self.rng.random()
        if kind < .4:
            self.interruptible(kind)
        else:
            self.emit(*self.pick(("cli", "inc %ecx", "sti"), ("mov %cr0, %rax" if self.bits == 64 else "mov %cr0, %eax",),
                                 ("mov %cr3, %rax", "mov %rax, %cr3") if self.bits == 64 else ("cli", "sti"),
                                 ("cli", "swapgs", "add %ecx, %esi", "swapgs", "sti") if self.bits == 64 else ("clts",),
                                 (f"invlpg 64(%{self.word}bx)",)))
        self.emit(f"jmp {done}")
        self.place(user)
        self.emit("syscall" if self.bits == 64 and self.chance(.7) else "int3")
        self.place(done)

    def interruptible(self, kind):
        """At CPL 0: interrupts wait for IF, in each way in which it can be set."""
        wait, word = self.label(), self.word
        bx = f"%{word}bx"
        pushed = self.chance(.3)
        self.emit(*(("pushf", "cli") if pushed else self.pick(("cli",), ("pushf", f"andl $~0x200, (%{word}sp)", "popf"))))
        if kind < .1:
            self.emit("mov $9000, %ecx")
            self.place(wait)
            self.emit("dec %ecx", f"jnz {wait}")
        if self.bits == 64 and self.chance(.5):
            self.emit("stac")
            self.some(self.rng.randrange(0, 3))
            self.emit("clac")
        self.some(self.rng.randrange(0, 3))
        if pushed:
            self.emit("popf")
        self.emit(*self.pick(("sti",), ("sti",), ("sti", "cli", "sti"), ("sti", "sti"),
                             ("pushf", f"orl $0x200, (%{word}sp)", "popf")))
        self.emit(*self.pick((), ("inc %eax",), (f"mov %eax, 8({bx})",), ("pushf", f"pop {self.full()}"),
                             ("mov %ss, %eax", "mov %eax, %ss", "inc %edx"), ("cli", "inc %ecx", "sti"), ("rdtsc",),
                             ("pushf", "popf")))

    # ---- changes of code and of mappings ----

    def patch(self):
        """The program changes itself: an instruction ahead or behind."""
        at = self.label()
        kind = self.pick("constant", "constant", "opcode", "behind")
        if kind == "behind":
            self.place(at)
            self.emit(f"mov $0x{self.rng.randrange(1 << 32):x}, %eax")
            self.some(2)
            self.emit(f"movl %ecx, {self.here(at + '+1')}")
            return
        self.emit(f"mov{self.pick('b %cl', 'l %esi', 'w %dx')}, {self.here(at + '+1')}" if kind == "constant"
                  else f"xorb $8, {self.here(at + '+1')}")
        self.some(self.pick(0, 0, 2, 5))
        self.place(at)
        self.emit("mov $0x11223344, %eax" if kind == "constant" else ".byte 0xff, 0xc2")

    def window_code(self, page=None):
        """A function of the window: the offset of its 5 bytes, the second of which is its constant."""
        page = CODE_PAGE + self.rng.randrange(CODE_PAGES - 1) if page is None else page
        return page * PAGE + self.pick(16, 256, 512, 1024, 3840, PAGE - 3)

    def call_window(self):
        off = self.window_code() if self.chance(.7) else (CODE_PAGE + self.rng.randrange(CODE_PAGES - 1)) * PAGE + 128
        if self.chance(.5):
            self.emit(f"call window_at + {off}")
            return
        at = f"{off}(%r15)"
        self.emit(f"lea {at}, %rdx", *self.pick(("call *%rdx",), ("call *%rdx",), ("lea 1f(%rip), %rcx", "push %rcx", "jmp *%rdx", "1:"),
                                               ("lea 1f(%rip), %rcx", "push %rcx", "push %rdx", "ret", "1:")))

    def change_mapping(self):
        def entry(page):
            return f"pt + {8 * page}(%rip)"
        data = self.chance(.5)
        a, b = ((self.rng.randrange(DATA_PAGES), self.rng.randrange(DATA_PAGES)) if data else
                (CODE_PAGE + self.rng.randrange(CODE_PAGES), CODE_PAGE + self.rng.randrange(CODE_PAGES)))
        kind = self.rng.random()
        if kind < .3:
            self.emit(f"mov {entry(a)}, %rax", f"xchg %rax, {entry(b)}", f"mov %rax, {entry(a)}")
        elif kind < .5:
            self.emit(f"{self.pick('andl', 'lock andl')} $~1, {entry(a)}")
        elif kind < .7:
            self.emit(f"andb $~2, {entry(a)}")
        elif kind < .85:
            self.emit(f"andb $0x9f, {entry(a)}")
        elif self.chance(.6):
            off = self.pick(self.window_code() + 1, (CODE_PAGE + self.rng.randrange(1, CODE_PAGES)) * PAGE)
            self.emit(f"mov{self.pick('b %cl', 'w %dx')}, {off}(%r15)")
        else:
            self.emit(f"movb %cl, {self.window_code(ALIAS_PAGE + self.rng.randrange(ALIAS_PAGES - 1)) + 1}(%r15)")

    # ---- control flow ----

    def some(self, n):
        for _ in range(n):
            self.statement()

    def skip(self):
        end = self.label()
        if self.chance(.1):
            near, other = self.label(), self.label()  # it reaches 127 bytes
            self.emit(f"j{self.word}cxz {near}", f"jmp {other}")
            self.place(near)
            self.emit(f"jmp {end}")
            self.place(other)
        else:
            self.emit(f"j{self.pick(*CONDITIONS)} {end}")
        self.some(self.rng.randrange(1, 5))
        self.place(end)

    def either(self):
        other, end = self.label(), self.label()
        self.emit(f"j{self.pick(*CONDITIONS)} {other}")
        self.some(self.rng.randrange(1, 4))
        self.emit(f"jmp {end}")
        self.place(other)
        self.some(self.rng.randrange(1, 4))
        self.place(end)

    def loop(self):
        if self.depth == 2 or self.leaf and self.depth:
            self.binary()
            return
        begin, counter = self.label(), f"{FRAME + 4 * self.depth}(%{self.word}sp)"
        self.depth += 1
        self.emit(f"movl ${self.rng.randrange(1, 6)}, {counter}")
        self.place(begin)
        self.some(self.rng.randrange(1, 7))
        self.emit(f"decl {counter}", f"jnz {begin}")
        self.depth -= 1

    def table(self):
        """A jump or a call through a table."""
        table, end, calls = self.label(), self.label(), not self.leaf and self.chance(.5)
        targets = [f"f{FUNCTIONS - 1 - self.rng.randrange(LEAVES)}" if calls else self.label() for _ in range(4)]
        self.emit("and $3, %ecx")
        if self.bits == 64:
            self.emit(f"lea {table}(%rip), %rdx", "movslq (%rdx,%rcx,4), %rcx", "add %rdx, %rcx")
            self.emit(f"{'call' if calls else 'jmp'} *%rcx")
            entries = [f".long {t} - {table}" for t in targets]
        else:
            self.emit(f"{'call' if calls else 'jmp'} *{table}(,%ecx,4)")
            entries = [f".long {t}" for t in targets]
        for t in targets if not calls else ():
            self.place(t)
            self.pick(self.binary, self.unary, self.various)()
            if self.chance(.6):
                self.emit(f"jmp {end}")
        self.emit(f"jmp {end}")
        self.place(table)
        self.emit(*entries)
        self.place(end)

    def call(self):
        if self.leaf:
            self.binary()
            return
        self.emit(f"call f{FUNCTIONS - 1 - self.rng.randrange(LEAVES)}")

    def statement(self):
        common = [(self.binary, 30), (self.unary, 12), (self.various, 20), (self.stack, 5), (self.skip, 8), (self.either, 3),
                  (self.loop, 3), (self.call, 3), (self.table, 1), (self.string, 2), (self.vector, 4), (self.x87, 4),
                  (self.divide, 1), (self.pointer, 3), (self.flags_word, 1), (self.bits_of_memory, 1.5), (self.shift_chain, 3),
                  (self.push_memory, 1), (self.leave, .5), (self.tight_loop, 1), (self.aligned, 1.5), (self.to_nowhere, .3),
                  (self.system, .5), (self.privileged, .5), (self.patch, self.patching)]
        if self.bits == 64:
            common += [(self.by_segment, 1), (self.call_window, 2), (self.change_mapping, self.mapping)]
        self.rng.choices([f for f, _ in common], [w for _, w in common])[0]()

    # ---- the program ----

    def function(self, n):
        # Most change neither code nor mappings: who does so is slow.
        self.leaf = n >= FUNCTIONS - LEAVES
        self.patching = .7 if self.chance(.25) else 0
        self.mapping = 1.5 if self.chance(.3) else 0
        word = self.word
        if self.chance(.3):  # across pages
            self.lines.append(f"    .balign {PAGE}\n    .skip {PAGE - self.rng.randrange(1, 120)}")
        self.lines.append(f"beside{n}: .skip 32")
        if self.chance(.5):
            self.lines.append("    .balign 16")
        self.place(f"f{n}")
        self.emit(f"lea -{FRAME + 16}(%{word}sp), %{word}sp")
        self.some(self.rng.randrange(2, 10) if self.leaf else self.rng.randrange(8, 40))
        end = self.label()
        self.emit(f"jmp {end}")
        self.lines.append(f"inside{n}: .skip 32")
        self.place(end)
        self.emit(f"lea {FRAME + 16}(%{word}sp), %{word}sp", "ret")

    def text(self):
        saved = ["bx", "bp", "si", "di"]
        extra = [f"%r{i}" for i in range(12, 16)] if self.bits == 64 else []
        word = self.word
        self.lines = ["    .text", "    .globl fuzz", "fuzz:"]
        self.emit(*(f"push %{word}{r}" for r in saved), *(f"push {r}" for r in extra))
        if self.bits == 64:
            self.emit("mov %rdi, %r15", "mov %rdi, %rbx")
        else:
            self.emit("mov 20(%esp), %ebx")
        if self.bits == 64:
            self.emit("wrfsbase %rbx", "wrgsbase %rbx")
        self.emit("xor %eax, %eax", "xor %ecx, %ecx", "xor %edx, %edx", "mov $1, %esi", "mov $2, %edi")
        self.emit(*(f"mov ${i}0{i}01, %r{i}d" for i in range(8, 15)) if self.bits == 64 else ())
        for n in range(FUNCTIONS - LEAVES):
            step, count = self.pick(0, 8, 64, 1000), self.rng.randrange(8, 30)
            self.emit(f"mov ${count}, %ebp")
            self.place(f"again{n}")
            self.emit(f"call f{n}", f"lea {step}(%{word}bx), %{word}bx", "dec %ebp", f"jnz again{n}")
            self.emit(f"sub ${step * count}, %{word}bx")
        self.emit(*(f"pop {r}" for r in reversed(extra)), *(f"pop %{word}{r}" for r in reversed(saved)), "ret")
        for n in range(FUNCTIONS):
            self.function(n)
        self.lines += ["    .balign 16", "fx_area: .skip 512", "fx_word: .word 0x37f"]
        return "\n".join(self.lines) + "\n"


if __name__ == "__main__":
    print(Program(int(sys.argv[1], 0), int(sys.argv[2])).text(), end="")
