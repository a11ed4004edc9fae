//! Which line an offset is in, as editors count them: `\n`, `\r\n` and `\r` end one.

use memchr::memchr2_iter;
use ruff_text_size::TextSize;

/// Where the lines of a text begin.
#[derive(Debug, Clone)]
pub struct Lines {
    starts: Vec<u32>,
}

impl Lines {
    /// Looks for the line ends of a text of less than 4 GiB.
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let ends = memchr2_iter(b'\n', b'\r', bytes)
            .filter(|at| bytes.get(*at) == Some(&b'\n') || bytes.get(at + 1) != Some(&b'\n'));
        Self { starts: ends.map(|at| u32::try_from(at + 1).unwrap_or(u32::MAX)).collect() }
    }

    /// The line of an offset, from 1.
    pub fn of(&self, offset: TextSize) -> u32 {
        let before = self.starts.partition_point(|start| *start <= offset.to_u32());
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_end_ends_one_line() {
        let lines = Lines::new("a\nb\r\nc\rd\r\r\n\x0ce");
        let line_of = |offset: u32| lines.of(TextSize::new(offset));
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(line_of), [1, 1, 2, 2, 2, 3, 3, 4]);
        assert_eq!([8, 9, 10, 11, 12].map(line_of), [4, 5, 5, 6, 6], "a form feed is none");
        assert_eq!(Lines::new("").of(TextSize::new(0)), 1);
    }
}
