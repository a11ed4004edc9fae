//! A filter that says which names a block does not have: a split-block Bloom filter, of which a question reads 32 bytes.

/// The bytes that one question needs.
pub const GROUP_BYTES: usize = 32;
/// With so many bits a name, one question of some 250 is answered wrongly with yes.
const BITS_PER_NAME: usize = 12;

/// The first sixteen bytes of BLAKE3 over the name: the first half chooses the group, the second the bits.
fn hash(name: &str) -> (u64, u64) {
    let hash = blake3::hash(name.as_bytes());
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *hash.as_bytes();
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p]))
}

/// The bit of each of the eight words of a group.
fn masks(second: u64) -> [u32; 8] {
    std::array::from_fn(|word| 1 << (second >> (5 * word) & 31))
}

/// Makes the filter of some names; empty for none.
pub fn make<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Vec<u8> {
    let groups = (names.len() * BITS_PER_NAME).div_ceil(8 * GROUP_BYTES);
    let mut words = vec![[0u32; 8]; groups];
    for name in names {
        let (first, second) = hash(name);
        let at = (u128::from(first) * groups as u128) >> 64;
        for (word, mask) in words.get_mut(at as usize).into_iter().flatten().zip(masks(second)) {
            *word |= mask;
        }
    }
    words.into_iter().flatten().flat_map(u32::to_le_bytes).collect()
}

/// Where in a filter of `bytes` bytes the group of a name begins.
pub fn group_of(name: &str, bytes: u64) -> u64 {
    let groups = bytes / GROUP_BYTES as u64;
    ((u128::from(hash(name).0) * u128::from(groups)) >> 64) as u64 * GROUP_BYTES as u64
}

/// Whether a name may be among those of a filter, by its group.
pub fn may_have(name: &str, group: &[u8]) -> bool {
    let words = group.chunks_exact(4).map(|word| word.iter().rev().fold(0u32, |all, byte| all << 8 | u32::from(*byte)));
    words.zip(masks(hash(name).1)).all(|(word, mask)| word & mask != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(filter: &[u8], name: &str) -> bool {
        let at = group_of(name, filter.len() as u64) as usize;
        may_have(name, &filter[at..at + GROUP_BYTES])
    }

    #[test]
    fn names_are_found_and_few_others() {
        let names: Vec<String> = (0..5000).map(|n| format!("run-{n}")).collect();
        let filter = make(names.iter().map(String::as_str));
        assert!(filter.len() <= 5000 * BITS_PER_NAME / 8 + GROUP_BYTES);
        assert!(names.iter().all(|name| asks(&filter, name)));
        let wrong = (0..10_000).filter(|n| asks(&filter, &format!("other-{n}"))).count();
        assert!(wrong < 100, "{wrong} of 10,000");
        assert!(make(std::iter::empty()).is_empty());
    }
}
