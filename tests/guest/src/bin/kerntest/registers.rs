//! All registers of a task: loads them, holds them for a while, and reads them again.
//!
//! There are three kinds: without vector state, with x87 and SSE, with AVX as well. The kind
//! follows from the process and the machine. The functions must be called where their instructions
//! exist.

use core::arch::{asm, naked_asm};

use abi::cpu_features;
use user_rt::boot;

/// Words of a register set: see [`name`].
pub const WORDS: usize = 102;
const GPRS: usize = 14;
const FLAGS: usize = GPRS;
const FS: usize = FLAGS + 1;
pub const GS: usize = FS + 1;
/// DS, ES, FS and GS, 16 bits each.
pub const SELECTORS: usize = GS + 1;
const CONTROL: usize = SELECTORS + 1;
/// x87 status, tags and last opcode; the addresses of the last instruction and of its operand.
const STATUS: usize = CONTROL + 1;
const CODE: usize = STATUS + 1;
const OPERAND: usize = CODE + 1;
const X87: usize = OPERAND + 1;
const VECTORS: usize = X87 + 16;
const _: () = assert!(VECTORS + 64 == WORDS);

/// Carry, parity, adjust, zero, sign, direction, overflow, identification.
const FREE_FLAGS: u64 = 0x20_0cd5;
const FIXED_FLAGS: u64 = 0x202;

/// A register set.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Registers(pub [u64; WORDS]);

/// The registers to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    General,
    Sse,
    Avx,
}

impl Kind {
    /// Returns the most registers that a process with or without vector state has here.
    pub fn of(vector: bool) -> Kind {
        match vector {
            false => Kind::General,
            true if boot::has(cpu_features::AVX) => Kind::Avx,
            true => Kind::Sse,
        }
    }

    /// Whether this kind includes a word.
    fn counts(self, word: usize) -> bool {
        match self {
            Kind::General => word < CONTROL,
            // The lower half of each vector register.
            Kind::Sse => word < VECTORS || (word - VECTORS) % 4 < 2,
            Kind::Avx => true,
        }
    }
}

/// Returns the name of a word's register.
pub fn name(word: usize) -> &'static str {
    const NAMES: [&str; X87] = [
        "rax",
        "rbx",
        "rdx",
        "rsi",
        "rdi",
        "rbp",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
        "rflags",
        "fs base",
        "gs base",
        "a segment register",
        "x87 control and mxcsr",
        "x87 status",
        "the address of the last x87 instruction",
        "the address of the last x87 operand",
    ];
    match word {
        CONTROL.. if word >= VECTORS => "a vector register",
        _ if word >= X87 => "an x87 register",
        _ => NAMES[word],
    }
}

impl Registers {
    pub const EMPTY: Registers = Registers([0; WORDS]);

    /// Returns the set that `seed` stands for: each register has its own value, as far as the CPU
    /// accepts it.
    pub fn random(seed: u64) -> Registers {
        let mut random = oorandom::Rand64::new(u128::from(seed));
        let mut set = Registers(core::array::from_fn(|_| random.rand_u64()));
        set.0[FLAGS] = set.0[FLAGS] & FREE_FLAGS | FIXED_FLAGS;
        for base in [FS, GS] {
            set.0[base] &= abi::USER_TOP - 1;
        }
        // Tasks of one process share the selectors: see `with_selectors_of`.
        set.0[SELECTORS] = 0;
        // The loads leave their own values there: see `settle_pointers`.
        set.0[STATUS..X87].fill(0);
        // Rounding modes of both units, with everything masked.
        let modes = set.0[CONTROL];
        let control = 0x37f | (modes & 3) << 10;
        let mxcsr = 0x1f80 | (modes >> 2 & 3) << 13;
        set.0[CONTROL] = control | mxcsr << 32;
        for register in 0..8 {
            // Normal numbers, which a load and a store keep.
            let (low, high) = (X87 + 2 * register, X87 + 2 * register + 1);
            set.0[low] |= 1 << 63;
            set.0[high] = 0x3f00 | set.0[high] & 0x80ff;
        }
        set
    }

    /// Returns the registers of a process without a history: all zero except the modes.
    pub fn initial() -> Registers {
        let mut set = Registers::EMPTY;
        set.0[CONTROL] = 0x37f | 0x1f80 << 32;
        set
    }

    /// Returns the first word of this kind in which another set differs. Segment registers may have
    /// become null, as they are while another process runs.
    pub fn differs(&self, other: &Registers, kind: Kind) -> Option<usize> {
        let may_be = |word: usize| match word {
            SELECTORS => other.explains(self.0[word]),
            _ => self.0[word] == other.0[word],
        };
        (0..WORDS).find(|word| kind.counts(*word) && !may_be(*word))
    }

    /// Returns the first word of the vector part in which another set differs.
    pub fn vector_differs(&self, other: &Registers, kind: Kind) -> Option<usize> {
        (CONTROL..WORDS).find(|word| kind.counts(*word) && self.0[*word] != other.0[*word])
    }

    /// Returns the set with the selectors that all tasks of a process load.
    pub fn with_selectors_of(mut self, process: u64) -> Registers {
        let mut random = oorandom::Rand64::new(u128::from(process));
        // A null selector, and the descriptors of user level, each with any privilege.
        let [null, data, code] = [0, own_selector(Segment::Stack), own_selector(Segment::Code)];
        self.0[SELECTORS] = (0..4).fold(0, |word, _| {
            let descriptor = [null, data, code][random.rand_range(0..3) as usize];
            word << 16 | u64::from(descriptor & !3) | random.rand_range(0..4)
        });
        self
    }

    /// Whether a process whose tasks load the selectors of this set may find these: each of them,
    /// or a null one, also in the middle of loading.
    pub fn explains(&self, selectors: u64) -> bool {
        (0..64).step_by(16).all(|shift| {
            let [found, own] = [selectors, self.0[SELECTORS]].map(|word| word >> shift & 0xffff);
            found == own || found == 0
        })
    }
}

enum Segment {
    Stack,
    Code,
}

/// Returns the selector that the CPU runs this program with.
fn own_selector(segment: Segment) -> u16 {
    let selector: u16;
    // SAFETY: reads a register.
    unsafe {
        match segment {
            Segment::Stack => {
                asm!("mov {:x}, ss", out(reg) selector, options(nomem, nostack, preserves_flags))
            }
            Segment::Code => {
                asm!("mov {:x}, cs", out(reg) selector, options(nomem, nostack, preserves_flags))
            }
        }
    }
    selector
}

/// Returns the current segment registers, as in word [`SELECTORS`].
pub fn selectors() -> u64 {
    let [ds, es, fs, gs]: [u64; 4];
    // SAFETY: reads registers.
    unsafe {
        asm!(
            "mov {:e}, ds", "mov {:e}, es", "mov {:e}, fs", "mov {:e}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags)
        );
    }
    ds | es << 16 | fs << 32 | gs << 48
}

/// Returns the base of GS.
pub fn gs_base() -> u64 {
    let base: u64;
    // SAFETY: reads a register; the kernel needs FSGSBASE, and lets programs use it.
    unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

/// Changes the base of GS until the next system call that lets another task run. Returns the base
/// afterwards.
pub fn set_gs_base(base: u64) -> u64 {
    let base = base & (abi::USER_TOP - 1);
    // SAFETY: nothing here uses GS; the address is canonical.
    unsafe { asm!("wrgsbase {}", in(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

/// Returns the components of vector state that are in use, as XGETBV(1) shows them to any program;
/// 0: all have their initial image.
///
/// Requires: [`cpu_features::XGETBV1`].
pub fn in_use() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a register that exists, by this function's requirement.
    unsafe {
        asm!("xgetbv", in("ecx") 1, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Returns the components in use after a load of the initial image. If this is not 0, the machine
/// does not count them.
///
/// Requires: [`cpu_features::XGETBV1`], and a process with vector state.
pub fn in_use_after_initial_image() -> u64 {
    const HEAD: usize = 576 / 8;
    const MXCSR: usize = 24 / 8;
    #[repr(C, align(64))]
    struct Image([u64; HEAD]);
    let mut image = Image([0; HEAD]);
    image.0[MXCSR] = 0x1f80;
    // SAFETY: a valid image in the standard format; the process has vector state, and this function
    // uses none of it.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) &raw const image, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
    }
    in_use()
}

/// Loads `want`, counts `spins` down without changing a flag, and returns the registers after that.
pub fn hold(kind: Kind, want: &Registers, spins: u64) -> Registers {
    let mut got = Registers::EMPTY;
    // SAFETY: both sets are complete, and the caller's process has the registers of the kind.
    unsafe {
        match kind {
            Kind::General => hold_general(want, &raw mut got, spins),
            Kind::Sse => hold_sse(want, &raw mut got, spins),
            Kind::Avx => hold_avx(want, &raw mut got, spins),
        }
    }
    settle_pointers(want, &mut got);
    got
}

/// Replaces the address of the last x87 operand by the expected one, if it is that of the last load
/// from `want`. Machines that do not keep it have 0 there. The last instruction is the same in all
/// programs.
fn settle_pointers(want: &Registers, got: &mut Registers) {
    let own = &raw const want.0[X87 + 14] as u64;
    if got.0[OPERAND] == own {
        got.0[OPERAND] = 0;
    }
    got.0[CODE] = 0;
}

/// Loads `want`, faults with an instruction of two bytes, after which the handler lets the task
/// continue, and returns the registers after that.
pub fn hold_over_fault(kind: Kind, want: &Registers) -> Registers {
    let mut got = Registers::EMPTY;
    // SAFETY: as above.
    unsafe {
        match kind {
            Kind::General => fault_general(want, &raw mut got, 0),
            Kind::Sse => fault_sse(want, &raw mut got, 0),
            Kind::Avx => fault_avx(want, &raw mut got, 0),
        }
    }
    settle_pointers(want, &mut got);
    got
}

/// Returns the current vector part; nothing for a process without one.
pub fn peek(kind: Kind) -> Registers {
    let mut got = Registers::initial();
    // SAFETY: as in `hold`.
    unsafe {
        match kind {
            Kind::General => {}
            Kind::Sse => peek_sse(&raw mut got),
            Kind::Avx => peek_avx(&raw mut got),
        }
    }
    got
}

/// Inserts the numbers of the words into assembly.
macro_rules! registers_asm {
    ($($line:expr),* $(,)?) => {
        naked_asm!(
            $($line,)*
            flags = const FLAGS * 8, fs = const FS * 8, gs = const GS * 8, selectors = const SELECTORS * 8,
            control = const CONTROL * 8, mxcsr = const CONTROL * 8 + 4,
            status = const STATUS * 8, code = const CODE * 8, operand = const OPERAND * 8,
            x87 = const X87 * 8, vectors = const VECTORS * 8,
        )
    };
}

macro_rules! holder {
    ($name:ident, [$($load:expr),*], [$($between:expr),*], [$($store:expr),*]) => {
        /// # Safety
        /// `want` and `got` are complete; the process has the registers that are loaded.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name(want: *const Registers, got: *mut Registers, spins: u64) {
            registers_asm!(
                "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
                "push rsi",
                "rdfsbase rax", "push rax",
                "rdgsbase rax", "push rax",
                $($load,)*
                "mov rcx, rdx",
                // Before the bases, which loading FS or GS changes.
                "mov ax, [rdi + {selectors}]", "mov ds, eax", "mov ax, [rdi + {selectors} + 2]", "mov es, eax",
                "mov ax, [rdi + {selectors} + 4]", "mov fs, eax", "mov ax, [rdi + {selectors} + 6]", "mov gs, eax",
                "mov rax, [rdi + {fs}]", "wrfsbase rax",
                "mov rax, [rdi + {gs}]", "wrgsbase rax",
                "push qword ptr [rdi + {flags}]", "popfq",
                "mov rax, [rdi]", "mov rbx, [rdi + 8]", "mov rdx, [rdi + 16]", "mov rsi, [rdi + 24]",
                "mov rbp, [rdi + 40]", "mov r8, [rdi + 48]", "mov r9, [rdi + 56]", "mov r10, [rdi + 64]",
                "mov r11, [rdi + 72]", "mov r12, [rdi + 80]", "mov r13, [rdi + 88]", "mov r14, [rdi + 96]",
                "mov r15, [rdi + 104]", "mov rdi, [rdi + 32]",
                $($between,)*
                "push rdi", "pushfq", "mov rdi, [rsp + 32]",
                "mov [rdi], rax", "mov [rdi + 8], rbx", "mov [rdi + 16], rdx", "mov [rdi + 24], rsi",
                "mov [rdi + 40], rbp", "mov [rdi + 48], r8", "mov [rdi + 56], r9", "mov [rdi + 64], r10",
                "mov [rdi + 72], r11", "mov [rdi + 80], r12", "mov [rdi + 88], r13", "mov [rdi + 96], r14",
                "mov [rdi + 104], r15",
                "pop qword ptr [rdi + {flags}]", "pop qword ptr [rdi + 32]", "cld",
                "mov word ptr [rdi + {selectors}], ds", "mov word ptr [rdi + {selectors} + 2], es",
                "mov word ptr [rdi + {selectors} + 4], fs", "mov word ptr [rdi + {selectors} + 6], gs",
                "rdfsbase rax", "mov [rdi + {fs}], rax",
                "rdgsbase rax", "mov [rdi + {gs}], rax",
                $($store,)*
                "pop rax", "wrgsbase rax", "pop rax", "wrfsbase rax", "pop rsi",
                "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
                "ret",
                // An unused operand is an error.
                "/* {control} {mxcsr} {status} {code} {operand} {x87} {vectors} */",
            )
        }
    };
}

/// Repeats an instruction for each register, `st(0)` to `st(7)` or `xmm0` to `xmm15`.
macro_rules! x87_load {
    () => {
        concat!(
            "fninit\n",
            "fldcw word ptr [rdi + {control}]\n",
            "ldmxcsr [rdi + {mxcsr}]\n",
            "fld tbyte ptr [rdi + {x87}]\n",
            "fld tbyte ptr [rdi + {x87} + 16]\n",
            "fld tbyte ptr [rdi + {x87} + 32]\n",
            "fld tbyte ptr [rdi + {x87} + 48]\n",
            "fld tbyte ptr [rdi + {x87} + 64]\n",
            "fld tbyte ptr [rdi + {x87} + 80]\n",
            "fld tbyte ptr [rdi + {x87} + 96]\n",
            "fld tbyte ptr [rdi + {x87} + 112]\n",
        )
    };
}

macro_rules! x87_store {
    () => {
        concat!(
            // Some CPUs leave the addresses out of the image.
            "mov rcx, rsp\n",
            "sub rsp, 528\n",
            "and rsp, -16\n",
            "mov qword ptr [rsp + 16], 0\n",
            "fxsave64 [rsp]\n",
            "mov rax, [rsp + 16]\n",
            "mov [rdi + {operand}], rax\n",
            "mov rsp, rcx\n",
            "fnstcw word ptr [rdi + {control}]\n",
            "stmxcsr [rdi + {mxcsr}]\n",
            "fstp tbyte ptr [rdi + {x87} + 112]\n",
            "fstp tbyte ptr [rdi + {x87} + 96]\n",
            "fstp tbyte ptr [rdi + {x87} + 80]\n",
            "fstp tbyte ptr [rdi + {x87} + 64]\n",
            "fstp tbyte ptr [rdi + {x87} + 48]\n",
            "fstp tbyte ptr [rdi + {x87} + 32]\n",
            "fstp tbyte ptr [rdi + {x87} + 16]\n",
            "fstp tbyte ptr [rdi + {x87}]\n",
        )
    };
}

macro_rules! vectors {
    ($before:literal, $between:literal, $after:literal, store) => {
        vectors!(@ $before, $between, $after, true, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($before:literal, $between:literal, $after:literal, load) => {
        vectors!(@ $before, $between, $after, false, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $op:literal, $register:literal, $size:literal, true, $($n:literal)*) => {
        concat!($($op, " [rdi + {vectors} + 32 * ", $n, "], ", $register, $n, "\n"),*)
    };
    (@ $op:literal, $register:literal, $size:literal, false, $($n:literal)*) => {
        concat!($($op, " ", $register, $n, ", [rdi + {vectors} + 32 * ", $n, "]\n"),*)
    };
}

/// Defines the holders of all kinds, by what they do while they hold.
macro_rules! holders {
    ($general:ident $sse:ident $avx:ident, $($between:expr),*) => {
        holder!($general, [], [$($between),*], []);
        holder!(
            $sse,
            [x87_load!(), vectors!("movdqu", "xmm", "", load)],
            [$($between),*],
            [x87_store!(), vectors!("movdqu", "xmm", "", store)]
        );
        holder!(
            $avx,
            [x87_load!(), vectors!("vmovdqu", "ymm", "", load)],
            [$($between),*],
            [x87_store!(), vectors!("vmovdqu", "ymm", "", store)]
        );
    };
}

holders!(hold_general hold_sse hold_avx, "2:", "jrcxz 3f", "lea rcx, [rcx - 1]", "jmp 2b", "3:");
holders!(fault_general fault_sse fault_avx, "ud2");

macro_rules! peeker {
    ($name:ident, $store:expr) => {
        /// # Safety
        /// `got` is complete; the process has the registers that are stored.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name(got: *mut Registers) {
            registers_asm!(
                // The x87 registers, through an image that shows them without popping them.
                "sub rsp, 528",
                "mov rax, rsp",
                "and rax, -16",
                "mov qword ptr [rax], 0",
                "mov qword ptr [rax + 8], 0",
                "mov qword ptr [rax + 16], 0",
                "fxsave64 [rax]",
                "mov rcx, [rax]",
                "mov [rdi + {control}], cx",
                "shr rcx, 16",
                "mov [rdi + {status}], rcx",
                "mov rcx, [rax + 8]",
                "mov [rdi + {code}], rcx",
                "mov rcx, [rax + 16]",
                "mov [rdi + {operand}], rcx",
                "mov ecx, [rax + 24]",
                "mov [rdi + {mxcsr}], ecx",
                "lea rsi, [rax + 32]",
                "lea rdx, [rdi + {x87}]",
                "mov ecx, 8",
                "2:",
                "mov rax, [rsi]",
                "mov [rdx], rax",
                "movzx eax, word ptr [rsi + 8]",
                "mov [rdx + 8], rax",
                "add rsi, 16",
                "add rdx, 16",
                "dec ecx",
                "jnz 2b",
                $store,
                "add rsp, 528",
                "ret",
                "/* {flags} {fs} {gs} {selectors} */",
            )
        }
    };
}

peeker!(peek_sse, vectors!("movdqu", "xmm", "", store));
peeker!(peek_avx, vectors!("vmovdqu", "ymm", "", store));

/// First instructions of a task: stores the general registers and the selectors where rdi says,
/// then word [`FLAGS`], then waits.
///
/// # Safety
/// rdi points to as many words as a set has.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn first_look() -> ! {
    registers_asm!(
        "mov [rdi], rax",
        "mov [rdi + 8], rbx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rsi",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], r8",
        "mov [rdi + 56], r9",
        "mov [rdi + 64], r10",
        "mov [rdi + 72], r11",
        "mov [rdi + 80], r12",
        "mov [rdi + 88], r13",
        "mov [rdi + 96], r14",
        "mov [rdi + 104], r15",
        "mov [rdi + 32], rcx",
        "mov word ptr [rdi + {selectors}], ds",
        "mov word ptr [rdi + {selectors} + 2], es",
        "mov word ptr [rdi + {selectors} + 4], fs",
        "mov word ptr [rdi + {selectors} + 6], gs",
        "pushfq",
        "pop qword ptr [rdi + {flags}]",
        "2:",
        "pause",
        "jmp 2b",
        "/* {fs} {gs} {control} {mxcsr} {status} {code} {operand} {x87} {vectors} */",
    )
}
