//! The ISA extensions that KVM knows, under the names that a device tree's `riscv,isa-extensions`
//! has for them.

use kvm_bindings as ext;
use kvm_ioctls::VcpuFd;

use super::one_reg::OneReg;

/// Name and KVM's number, in canonical order (ISA manual vol. I, chapter "ISA Extension Naming
/// Conventions"): single letters, then `z…` by the letter that they belong to, then `s…`.
#[rustfmt::skip] // a table
const EXTENSIONS: [(&str, u32); ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_MAX as usize] = [
    ("i", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_I),
    ("m", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_M),
    ("a", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_A),
    ("f", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_F),
    ("d", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_D),
    ("c", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_C),
    ("v", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_V),
    ("h", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_H),
    ("zicbom", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICBOM),
    ("zicboz", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICBOZ),
    ("ziccrse", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICCRSE),
    ("zicntr", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICNTR),
    ("zicond", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICOND),
    ("zicsr", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZICSR),
    ("zifencei", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIFENCEI),
    ("zihintntl", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIHINTNTL),
    ("zihintpause", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIHINTPAUSE),
    ("zihpm", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIHPM),
    ("zimop", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZIMOP),
    ("zaamo", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZAAMO),
    ("zabha", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZABHA),
    ("zacas", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZACAS),
    ("zalrsc", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZALRSC),
    ("zawrs", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZAWRS),
    ("zfa", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZFA),
    ("zfh", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZFH),
    ("zfhmin", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZFHMIN),
    ("zca", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCA),
    ("zcb", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCB),
    ("zcd", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCD),
    ("zcf", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCF),
    ("zcmop", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZCMOP),
    ("zba", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBA),
    ("zbb", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBB),
    ("zbc", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBC),
    ("zbkb", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBKB),
    ("zbkc", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBKC),
    ("zbkx", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBKX),
    ("zbs", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZBS),
    ("zknd", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKND),
    ("zkne", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKNE),
    ("zknh", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKNH),
    ("zkr", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKR),
    ("zksed", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKSED),
    ("zksh", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKSH),
    ("zkt", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZKT),
    ("ztso", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZTSO),
    ("zvbb", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVBB),
    ("zvbc", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVBC),
    ("zvfh", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVFH),
    ("zvfhmin", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVFHMIN),
    ("zvkb", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKB),
    ("zvkg", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKG),
    ("zvkned", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKNED),
    ("zvknha", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKNHA),
    ("zvknhb", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKNHB),
    ("zvksed", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKSED),
    ("zvksh", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKSH),
    ("zvkt", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_ZVKT),
    ("smnpm", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SMNPM),
    ("smstateen", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SMSTATEEN),
    ("ssaia", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSAIA),
    ("sscofpmf", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSCOFPMF),
    ("ssnpm", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSNPM),
    ("sstc", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSTC),
    ("svade", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVADE),
    ("svadu", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVADU),
    ("svinval", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVINVAL),
    ("svnapot", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVNAPOT),
    ("svpbmt", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVPBMT),
    ("svvptc", ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVVPTC),
];

/// How many registers of 64 extensions each there are.
const BLOCKS: usize = EXTENSIONS.len().div_ceil(64);

/// What this vCPU has, in canonical order.
pub fn of_vcpu(fd: &VcpuFd) -> Result<Vec<&'static str>, kvm_ioctls::Error> {
    let mut bits = [0; BLOCKS];
    for (block, bits) in bits.iter_mut().enumerate() {
        *bits = match OneReg::isa_extensions(block).get(fd) {
            // An older kernel knows fewer.
            Err(errno) if errno.errno() == libc::ENOENT && block > 0 => 0,
            answer => answer?,
        };
    }
    Ok(named(&bits))
}

fn named(bits: &[u64; BLOCKS]) -> Vec<&'static str> {
    let has = |id: u32| bits[id as usize / 64] >> (id % 64) & 1 == 1;
    EXTENSIONS.into_iter().filter(|(_, id)| has(*id)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_name() {
        let mut ids: Vec<_> = EXTENSIONS.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_MAX).collect::<Vec<_>>());
    }

    #[test]
    fn names_stand_in_canonical_order() {
        const LETTERS: &str = "imafdqlcbkjtpvh";
        let place = |name: &str| -> (u8, Option<usize>, String) {
            match name.as_bytes() {
                [letter] => (0, LETTERS.find(*letter as char), String::new()),
                [b'z', letter, ..] => (1, LETTERS.find(*letter as char), name.to_owned()),
                _ => (2, None, name.to_owned()),
            }
        };
        for pair in EXTENSIONS.windows(2) {
            let (first, second) = (place(pair[0].0), place(pair[1].0));
            assert!(first < second, "{pair:?}");
            assert!(first.0 == 2 || first.1.is_some(), "{pair:?}");
        }
    }

    #[test]
    fn bits_become_names() {
        assert_eq!(named(&[0; BLOCKS]), Vec::<&str>::new());
        let rv64gc = 1 << ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_I
            | 1 << ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_A
            | 1 << ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SSTC;
        let svadu = 1 << (ext::KVM_RISCV_ISA_EXT_ID_KVM_RISCV_ISA_EXT_SVADU - 64);
        assert_eq!(named(&[rv64gc, svadu]), ["i", "a", "sstc", "svadu"]);
    }
}
