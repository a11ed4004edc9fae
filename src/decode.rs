//! Reading integers and byte strings out of untrusted bytes, and writing them the same way.
//!
//! Every format of the store is decoded through [`Decoder`], so that a wrong length is an error here and nowhere a
//! panic or a huge allocation.

/// Why bytes could not be decoded; the caller adds the file.
pub type DecodeResult<T> = Result<T, String>;

/// A position in a byte string that only moves forward.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> DecodeResult<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else { return Err(self.ends_early(count)) };
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> DecodeResult<[u8; N]> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else { return Err(self.ends_early(N)) };
        self.rest = rest;
        Ok(*head)
    }

    #[cold]
    fn ends_early(&self, wanted: usize) -> String {
        format!("ends {} bytes early", wanted - self.rest.len())
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> DecodeResult<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian 16-bit integer.
    #[inline]
    pub fn u16(&mut self) -> DecodeResult<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A little-endian 32-bit integer.
    #[inline]
    pub fn u32(&mut self) -> DecodeResult<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian 64-bit integer.
    #[inline]
    pub fn u64(&mut self) -> DecodeResult<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A LEB128 integer of at most 64 bits in its shortest form.
    #[inline]
    pub fn varint(&mut self) -> DecodeResult<u64> {
        match self.rest.split_first() {
            // Most are of one byte.
            Some((byte, rest)) if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> DecodeResult<u64> {
        const MAX_BYTES: usize = u64::BITS as usize / 7 + 1;
        let mut value = 0u64;
        for (place, byte) in self.rest.iter().take(MAX_BYTES).enumerate() {
            // One bit is left for the last byte.
            if place == MAX_BYTES - 1 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if *byte == 0 && place > 0 {
                return Err("a number not in its shortest form".into());
            }
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(place + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        if self.rest.len() < MAX_BYTES {
            Err(self.ends_early(self.rest.len() + 1))
        } else {
            Err("a number of over 64 bits".into())
        }
    }

    /// A [`Decoder::varint`] that counts items of at least `item_bytes` bytes each in what is left.
    ///
    /// A count that cannot be true is refused here, before anything is allocated for it.
    #[inline]
    pub fn count(&mut self, item_bytes: usize) -> DecodeResult<usize> {
        let count = self.varint()?;
        match usize::try_from(count).ok().and_then(|count| Some((count, count.checked_mul(item_bytes)?))) {
            Some((count, bytes)) if bytes <= self.rest.len() => Ok(count),
            _ => Err(format!("{count} items do not fit into {} bytes", self.rest.len())),
        }
    }

    /// Refuses bytes that are left over.
    pub fn finish(self) -> DecodeResult<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", self.rest.len())) }
    }
}

/// Appends a LEB128 integer in its shortest form.
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_refuse_other_forms() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(decoder.varint(), Ok(value));
            assert_eq!(decoder.finish(), Ok(()));
        }
        for bad in
            [&[0x80][..], &[0x80, 0x00], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]]
        {
            assert!(Decoder::new(bad).varint().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn counts_are_held_against_what_is_left() {
        assert_eq!(Decoder::new(&[2, 0, 0]).count(1), Ok(2));
        assert!(Decoder::new(&[3, 0, 0]).count(1).is_err());
        assert!(Decoder::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).count(usize::MAX).is_err());
    }
}
