//! Cuts file content into chunks where its own bytes say so (FastCDC), so that an insertion moves few of them.

use std::io::Read;
use std::ops::Range;

use fastcdc::v2020::{FastCDC, StreamCDC};
use serde::{Deserialize, Serialize};

/// The sizes that FastCDC cuts by, in bytes. They are set when a store is made and never enter an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunker {
    /// No chunk but the last of a file is shorter.
    pub min_bytes: u32,
    /// The length aimed at.
    pub average_bytes: u32,
    /// No chunk of a file that is cut is longer.
    pub max_bytes: u32,
}

impl Default for Chunker {
    /// Nearly every source file is one chunk, because versions of a small file are stored as differences anyway; models
    /// and data are cut.
    fn default() -> Self {
        Self { min_bytes: 16 << 10, average_bytes: 64 << 10, max_bytes: 256 << 10 }
    }
}

impl Chunker {
    /// Whether FastCDC takes these sizes: min 64 to average to max 16 MiB, average 256 B to 4 MiB.
    pub fn is_valid(&self) -> bool {
        (64..=1 << 20).contains(&self.min_bytes)
            && (256..=4 << 20).contains(&self.average_bytes)
            && (1024..=16 << 20).contains(&self.max_bytes)
            && self.min_bytes <= self.average_bytes
            && self.average_bytes <= self.max_bytes
    }

    /// The length up to which a file is one chunk: sixteen times `max_bytes`, within 4 MiB.
    ///
    /// Versions of such a file are stored as differences between whole contents. Cutting finds less in common: where
    /// changes are spread over a table of prices, each chunk is another.
    pub fn whole_bytes(&self) -> usize {
        let max = self.max_bytes as usize;
        max.saturating_mul(16).min(4 << 20).max(max)
    }

    fn sizes(&self) -> (usize, usize, usize) {
        (self.min_bytes as usize, self.average_bytes as usize, self.max_bytes as usize)
    }

    /// Cuts content that is in memory.
    pub fn cut(&self, content: &[u8]) -> Vec<Range<usize>> {
        let (min, average, max) = self.sizes();
        if content.len() <= self.whole_bytes() {
            return std::iter::once(0..content.len()).collect();
        }
        FastCDC::new(content, min, average, max).map(|chunk| chunk.offset..chunk.offset + chunk.length).collect()
    }

    /// Cuts content as it is read, at the places where [`Chunker::cut`] cuts content that it cuts at all.
    pub fn cut_stream<R: Read>(&self, source: R) -> impl Iterator<Item = std::io::Result<Vec<u8>>> {
        let (min, average, max) = self.sizes();
        StreamCDC::new(source, min, average, max).map(|chunk| chunk.map(|c| c.data).map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut reader = blake3::Hasher::new().update(b"noise").finalize_xof();
        let mut out = vec![0; bytes];
        reader.fill(&mut out);
        out
    }

    #[test]
    fn cuts_cover_the_content_and_agree_with_the_stream() {
        let content = noise(5 << 20);
        let cuts = Chunker::default().cut(&content);
        assert!(cuts.len() > 20);
        assert!(cuts.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!((cuts[0].start, cuts[cuts.len() - 1].end), (0, content.len()));
        let streamed: Vec<_> = Chunker::default().cut_stream(&content[..]).collect::<Result<_, _>>().expect("reads");
        assert!(cuts.iter().map(|c| &content[c.clone()]).eq(streamed.iter().map(Vec::as_slice)));
    }

    #[test]
    fn an_insertion_keeps_most_chunks() {
        let old = noise(5 << 20);
        let mut new = old.clone();
        new.insert(1 << 20, 7);
        let pieces = |content: &[u8]| -> std::collections::HashSet<Vec<u8>> {
            Chunker::default().cut(content).into_iter().map(|c| content[c].to_vec()).collect()
        };
        let (old, new) = (pieces(&old), pieces(&new));
        assert!(new.difference(&old).count() <= 3);
    }

    #[test]
    fn a_file_that_is_not_long_is_one_chunk() {
        let chunker = Chunker::default();
        assert_eq!(chunker.cut(&noise(4 << 20)).len(), 1);
        assert_eq!(chunker.cut(&[]), std::iter::once(0..0).collect::<Vec<_>>());
        assert!(chunker.cut(&noise((4 << 20) + 1)).len() > 1);
        let small = Chunker { min_bytes: 64, average_bytes: 1024, max_bytes: 1024 };
        assert_eq!((small.cut(&noise(16 << 10)).len(), small.cut(&noise((16 << 10) + 1)).len() > 16), (1, true));
        let large = Chunker { min_bytes: 1 << 20, average_bytes: 4 << 20, max_bytes: 16 << 20 };
        assert_eq!(large.whole_bytes(), 16 << 20);
    }
}
