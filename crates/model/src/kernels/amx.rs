//! The processor's matrix unit: eight tiles of sixteen rows of 64 bytes, multiplied by each other.
//!
//! Its instructions have no stable intrinsics, so blocks of a product are assembly from the first
//! load to the last store: no tile is alive outside one block. A product of the unit is summed in an
//! order of its own, which nothing else here repeats; so that a row's product does not depend on its
//! neighbours, whoever has the unit multiplies with it by one row, too.

#![expect(unsafe_code, reason = "the instructions are reached through assembly over pointers")]

use std::{arch::asm, marker::PhantomData, sync::OnceLock};

use super::instructions::{Instructions, allowed};

/// Rows of a tile, and values of a row of f32 or i32.
pub(super) const SIDE: usize = 16;

/// Bytes of a tile's row.
const ROW_BYTES: usize = 64;

/// Bytes of a whole tile.
pub(super) const TILE_BYTES: usize = SIDE * ROW_BYTES;

/// Whether the processor multiplies tiles of bf16 and the system lets this process.
pub(super) fn is_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| allowed(Instructions::Amx) && has_instructions() && is_granted())
}

fn has_instructions() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const WANTED: u32 = BF16 | TILE;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & WANTED == WANTED
}

/// Asks the kernel for the tiles' eight kilobytes of state, which it keeps for those threads only
/// whose process asked; it knows of them since Linux 5.16.
#[cfg(target_os = "linux")]
fn is_granted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let answer: isize;
    // SAFETY: the call reads and writes no memory of ours; it clobbers rcx and r11, as all do.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

#[cfg(not(target_os = "linux"))]
fn is_granted() -> bool {
    false
}

/// While it lives, this thread's tiles are all sixteen rows of 64 bytes; so it stays on its thread.
#[derive(Debug)]
pub(super) struct Tiles(PhantomData<*const ()>);

#[repr(C, align(64))]
struct Palette([u8; 64]);

impl Tiles {
    /// Panics where there are none.
    pub(super) fn configure() -> Self {
        static PALETTE: Palette = {
            let mut bytes = [0; 64];
            bytes[0] = 1;
            let mut tile = 0;
            while tile < 8 {
                // Bytes of a row, then how many rows.
                bytes[16 + 2 * tile] = ROW_BYTES as u8;
                bytes[48 + tile] = SIDE as u8;
                tile += 1;
            }
            Palette(bytes)
        };
        assert!(is_supported(), "a product by a unit that is not there");
        // SAFETY: the instruction is there and reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const PALETTE, options(nostack, readonly)) };
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    /// Without this the kernel would go on saving the tiles whenever the thread is switched.
    fn drop(&mut self) {
        // SAFETY: whoever made one has found the unit; no tile is alive outside a block.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// How far ahead of those being multiplied weights are called for that no rows before have read, in
/// bytes: two rounds of the loop. Reading them is most of what few rows cost.
pub(super) const AHEAD: usize = 8192;

/// Where the sums of a block lie: rows of f32, `stride` values apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) first: *mut f32,
    pub(super) stride: usize,
    /// Whether products are added to what is there.
    pub(super) add: bool,
}

/// Sixteen rows times 64 columns, of `tiles` · 32 inputs.
///
/// # Safety
///
/// `a` is `tiles` whole tiles: of sixteen rows, 32 inputs each. `w` is four times as many: of sixteen
/// pairs of inputs, four lines of sixteen columns, pair by pair. `c` has sixteen rows of 64 values.
pub(super) unsafe fn bf16_wide(_: &Tiles, a: *const u8, w: *const u8, tiles: usize, c: Sums) {
    // SAFETY: by the contract above, all loads and stores are within their operands; a line called
    // for ahead need not exist.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {add}, {add}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {c_stride}]",
            "tileloadd tmm1, [{c} + {c_stride} + 64]",
            "tileloadd tmm2, [{c} + {c_stride} + 128]",
            "tileloadd tmm3, [{c} + {c_stride} + 192]",
            "2:",
            "test {tiles}, {tiles}",
            "jz 4f",
            "3:",
            ".set understudy_ahead, {ahead}",
            ".rept 64",
            "prefetcht0 [{w} + understudy_ahead]",
            ".set understudy_ahead, understudy_ahead + 64",
            ".endr",
            "tileloadd tmm4, [{a} + {side}]",
            "tileloadd tmm5, [{w} + {side}*4]",
            "tdpbf16ps tmm0, tmm4, tmm5",
            "tileloadd tmm6, [{w} + {side}*4 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tileloadd tmm7, [{w} + {side}*4 + 128]",
            "tdpbf16ps tmm2, tmm4, tmm7",
            "tileloadd tmm5, [{w} + {side}*4 + 192]",
            "tdpbf16ps tmm3, tmm4, tmm5",
            "add {a}, 1024",
            "add {w}, 4096",
            "dec {tiles}",
            "jnz 3b",
            "4:",
            "tilestored [{c} + {c_stride}], tmm0",
            "tilestored [{c} + {c_stride} + 64], tmm1",
            "tilestored [{c} + {c_stride} + 128], tmm2",
            "tilestored [{c} + {c_stride} + 192], tmm3",
            a = inout(reg) a => _,
            w = inout(reg) w => _,
            tiles = inout(reg) tiles => _,
            c = in(reg) c.first,
            c_stride = in(reg) c.stride * size_of::<f32>(),
            side = in(reg) ROW_BYTES,
            ahead = const AHEAD,
            add = in(reg) usize::from(c.add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Thirty-two rows times 32 columns, of `tiles` · 32 inputs. All four lines of a pair are called for
/// `CALLED` bytes ahead, or none where that is nothing: rows further down find them in a cache.
///
/// # Safety
///
/// `a` is `tiles` whole tiles of sixteen rows and then as many of the next sixteen. `w` is as for
/// [`bf16_wide`], of which the first two lines of each pair are read. `c` has 32 rows of 32 values.
pub(super) unsafe fn bf16_tall<const CALLED: usize>(
    _: &Tiles,
    a: *const u8,
    w: *const u8,
    tiles: usize,
    c: Sums,
) {
    // SAFETY: by the contract above, all loads and stores are within their operands; a line called
    // for ahead need not exist.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {add}, {add}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {c_stride}]",
            "tileloadd tmm1, [{c} + {c_stride} + 64]",
            "tileloadd tmm2, [{lower} + {c_stride}]",
            "tileloadd tmm3, [{lower} + {c_stride} + 64]",
            "2:",
            "test {tiles}, {tiles}",
            "jz 4f",
            "3:",
            ".if {called}",
            ".set understudy_ahead, {called}",
            ".rept 64",
            "prefetcht0 [{w} + understudy_ahead]",
            ".set understudy_ahead, understudy_ahead + 64",
            ".endr",
            ".endif",
            "tileloadd tmm4, [{a} + {side}]",
            "tileloadd tmm6, [{w} + {side}*4]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{w} + {side}*4 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{b} + {side}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 1024",
            "add {b}, 1024",
            "add {w}, 4096",
            "dec {tiles}",
            "jnz 3b",
            "4:",
            "tilestored [{c} + {c_stride}], tmm0",
            "tilestored [{c} + {c_stride} + 64], tmm1",
            "tilestored [{lower} + {c_stride}], tmm2",
            "tilestored [{lower} + {c_stride} + 64], tmm3",
            a = inout(reg) a => _,
            b = inout(reg) a.wrapping_add(tiles * TILE_BYTES) => _,
            w = inout(reg) w => _,
            tiles = inout(reg) tiles => _,
            c = in(reg) c.first,
            lower = in(reg) c.first.wrapping_add(SIDE * c.stride),
            c_stride = in(reg) c.stride * size_of::<f32>(),
            side = in(reg) ROW_BYTES,
            called = const CALLED,
            add = in(reg) usize::from(c.add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
