//! A filter that says which names a block does not have: a split-block Bloom filter, of which a question reads 32 bytes.

/// The bytes that one question needs.
pub const GROUP_BYTES: usize = 32;
/// With so many bits a name, one question of some 700 is answered wrongly with yes. A million runs are 122 blocks: with 12
/// bits every second name would have a block of names decoded in vain.
const BITS_PER_NAME: usize = 16;

/// The hash of a name, by which many filters can be asked for it.
#[derive(Debug, Clone, Copy)]
pub struct NameHash {
    /// Chooses the group.
    first: u64,
    /// Chooses the bits.
    second: u64,
}

impl NameHash {
    /// The first sixteen bytes of BLAKE3 over the name.
    pub fn of(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *hash.as_bytes();
        let (first, second) = ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]);
        Self { first: u64::from_le_bytes(first), second: u64::from_le_bytes(second) }
    }

    fn group(self, groups: u64) -> u64 {
        ((u128::from(self.first) * u128::from(groups)) >> 64) as u64
    }

    /// The bit of each of the eight words of a group.
    fn masks(self) -> [u32; 8] {
        std::array::from_fn(|word| 1 << (self.second >> (5 * word) & 31))
    }

    /// Where in a filter of `bytes` bytes the group of the name begins.
    pub fn place(self, bytes: u64) -> u64 {
        self.group(bytes / GROUP_BYTES as u64) * GROUP_BYTES as u64
    }

    /// In which of so many parts of a filter the group of the name is. It is the same part of each filter.
    pub fn slice(self, slices: u64) -> u64 {
        self.group(slices)
    }

    /// Whether the name may be among those of a filter, by its group.
    pub fn may_be_in(self, group: &[u8]) -> bool {
        let words = group.chunks_exact(4);
        let words = words.map(|word| word.iter().rev().fold(0u32, |all, byte| all << 8 | u32::from(*byte)));
        words.zip(self.masks()).all(|(word, mask)| word & mask != 0)
    }
}

/// The groups of a filter of so many names.
fn groups(names: usize) -> usize {
    names.saturating_mul(BITS_PER_NAME).div_ceil(8 * GROUP_BYTES)
}

/// The length of the filter of so many names. None has ever been longer.
pub fn longest(names: usize) -> u64 {
    (groups(names) * GROUP_BYTES) as u64
}

/// Makes the filter of some names; empty for none.
pub fn make<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Vec<u8> {
    let groups = groups(names.len());
    let mut words = vec![[0u32; 8]; groups];
    for name in names {
        let hash = NameHash::of(name);
        let group = words.get_mut(hash.group(groups as u64) as usize);
        for (word, mask) in group.into_iter().flatten().zip(hash.masks()) {
            *word |= mask;
        }
    }
    words.into_iter().flatten().flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(filter: &[u8], name: &str) -> bool {
        let hash = NameHash::of(name);
        let at = hash.place(filter.len() as u64) as usize;
        hash.may_be_in(&filter[at..at + GROUP_BYTES])
    }

    #[test]
    fn names_are_found_and_few_others() {
        let names: Vec<String> = (0..5000).map(|n| format!("run-{n}")).collect();
        let filter = make(names.iter().map(String::as_str));
        assert!(filter.len() <= 5000 * BITS_PER_NAME / 8 + GROUP_BYTES);
        assert_eq!(filter.len() as u64, longest(5000));
        assert!(names.iter().all(|name| asks(&filter, name)));
        let wrong = (0..10_000).filter(|n| asks(&filter, &format!("other-{n}"))).count();
        assert!(wrong < 30, "{wrong} of 10,000");
        assert!(make(std::iter::empty()).is_empty());
    }
}
