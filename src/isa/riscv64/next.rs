//! Where an instruction leads: what a debugger must know to make single steps with breakpoints
//! (unprivileged ISA manual, chapters "RV64I" and "C").

/// The bytes of the instruction that begins with this parcel of 16 bits: 2 or 4. Longer ones have
/// never come to be.
pub const fn length(parcel: u16) -> u64 {
    if parcel & 3 == 3 { 4 } else { 2 }
}

/// Where the instruction `code`, which is at `pc`, may lead to: to the next one, to where it jumps,
/// or for a branch to both. `reg` reads `x1` to `x31`, and `sepc` is where `sret` returns to.
pub fn successors(code: u32, pc: u64, reg: &dyn Fn(usize) -> u64, sepc: u64) -> Vec<u64> {
    let next = pc.wrapping_add(length(code as u16));
    let to = |offset: i64| pc.wrapping_add_signed(offset);
    let x = |number: u32| if number == 0 { 0 } else { reg(number as usize) };
    let field = |at: u32, bits: u32| code >> at & ((1 << bits) - 1);
    if code & 3 != 3 {
        return compressed(code as u16, next, &to, &x);
    }
    match code & 0x7f {
        // jal
        0x6f => {
            let offset = field(21, 10) << 1 | field(20, 1) << 11 | field(12, 8) << 12;
            vec![to(signed(offset | field(31, 1) << 20, 21))]
        }
        // jalr
        0x67 => {
            let base = x(field(15, 5));
            vec![base.wrapping_add_signed(signed(field(20, 12), 12)) & !1]
        }
        // Conditional branches.
        0x63 => {
            let offset = field(8, 4) << 1 | field(25, 6) << 5 | field(7, 1) << 11;
            both(next, to(signed(offset | field(31, 1) << 12, 13)))
        }
        // sret
        _ if code == 0x1020_0073 => vec![sepc],
        _ => vec![next],
    }
}

fn compressed(code: u16, next: u64, to: &dyn Fn(i64) -> u64, x: &dyn Fn(u32) -> u64) -> Vec<u64> {
    let code = u32::from(code);
    let bit = |from: u32, to: u32| (code >> from & 1) << to;
    let bits = |from: u32, count: u32, to: u32| (code >> from & ((1 << count) - 1)) << to;
    match (code & 3, code >> 13) {
        // c.j
        (1, 0b101) => {
            let offset = bit(12, 11) | bit(11, 4) | bits(9, 2, 8) | bit(8, 10) | bit(7, 6);
            vec![to(signed(offset | bit(6, 7) | bits(3, 3, 1) | bit(2, 5), 12))]
        }
        // c.beqz, c.bnez
        (1, 0b110 | 0b111) => {
            let offset = bit(12, 8) | bits(10, 2, 3) | bits(5, 2, 6) | bits(3, 2, 1) | bit(2, 5);
            both(next, to(signed(offset, 9)))
        }
        // c.jr, c.jalr: those that move and add have a second register, and c.ebreak has none.
        (2, 0b100) if code >> 2 & 0x1f == 0 && code >> 7 & 0x1f != 0 => {
            vec![x(code >> 7 & 0x1f) & !1]
        }
        _ => vec![next],
    }
}

fn both(next: u64, target: u64) -> Vec<u64> {
    if next == target { vec![next] } else { vec![next, target] }
}

/// A number of `bits` bits in two's complement.
const fn signed(value: u32, bits: u32) -> i64 {
    let shift = 64 - bits;
    ((value as i64) << shift) >> shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(code: u32) -> Vec<u64> {
        // x5 has 0x5001, and any other register its number in the third digit.
        let reg = |number: usize| if number == 5 { 0x5001 } else { number as u64 * 0x100 };
        successors(code, 0x8000_0000, &reg, 0x1234)
    }

    /// The codes are what GNU `as` makes of the instructions.
    #[test]
    fn instructions_lead_where_they_say() {
        let cases: [(&str, u32, &[u64]); 18] = [
            ("addi a0, a0, 1", 0x0015_0513, &[0x8000_0004]),
            ("jal ra, .+0x1000", 0x0000_10ef, &[0x8000_1000]),
            ("j .-4", 0xffdf_f06f, &[0x7fff_fffc]),
            ("jalr ra, 4(t0)", 0x0042_80e7, &[0x5004]),
            ("jalr ra, -1(t0)", 0xfff2_80e7, &[0x5000]),
            ("ret", 0x0000_8067, &[0x100]),
            ("beq a0, a1, .+16", 0x00b5_0863, &[0x8000_0004, 0x8000_0010]),
            ("bne a0, a1, .-16", 0xfeb5_18e3, &[0x8000_0004, 0x7fff_fff0]),
            ("beqz zero, .+4", 0x0000_0263, &[0x8000_0004]),
            ("sret", 0x1020_0073, &[0x1234]),
            ("ecall", 0x0000_0073, &[0x8000_0004]),
            ("c.nop", 0x0001, &[0x8000_0002]),
            ("c.j .+32", 0xa005, &[0x8000_0020]),
            ("c.j .-2", 0xbffd, &[0x7fff_fffe]),
            ("c.beqz a0, .+8", 0xc501, &[0x8000_0002, 0x8000_0008]),
            ("c.bnez a0, .-8", 0xfd65, &[0x8000_0002, 0x7fff_fff8]),
            ("c.jr t0", 0x8282, &[0x5000]),
            ("c.mv a0, a1", 0x852e, &[0x8000_0002]),
        ];
        for (text, code, expected) in cases {
            assert_eq!(led(code), expected, "{text} ({code:#x})");
        }
        assert_eq!(led(0x9282), [0x5000], "c.jalr t0");
        assert_eq!(led(0x9002), [0x8000_0002], "c.ebreak");
    }

    #[test]
    fn any_code_leads_somewhere() {
        for _ in 0..100_000 {
            let led = led(fastrand::u32(..));
            assert!((1..=2).contains(&led.len()));
        }
    }
}
