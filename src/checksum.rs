//! The checksum of what stands in files: the first eight bytes of BLAKE3 over it.

/// Its length.
pub const BYTES: usize = 8;

/// The checksum of some bytes.
pub fn of(bytes: &[u8]) -> [u8; BYTES] {
    first_bytes(blake3::hash(bytes))
}

/// The checksum of pieces as if they stood side by side.
pub fn of_parts(parts: &[&[u8]]) -> [u8; BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    first_bytes(hasher.finalize())
}

fn first_bytes(hash: blake3::Hash) -> [u8; BYTES] {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    [a, b, c, d, e, f, g, h]
}
