//! Reads sources and says what they say, from the cache where that knows them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use foldhash::HashMap;
use rayon::prelude::*;

use super::cache::{Key, ScanCache};
use super::graph::FileForm;
use crate::decode::Decoder;
use crate::id::ObjectId;
use crate::python::bytecode;
use crate::python::import_system::Form;
use crate::python::import_system::listing::{read_member, split_archive};
use crate::python::notebook;
use crate::python::source::{Problem, Scan, Target, scan};

/// A longer file is no source that anybody wrote, and not read.
const MAX_BYTES: u64 = 64 << 20;
/// Fewer files are read by one core: to call up the others takes longer.
const PARALLEL_FILES: usize = 8;

/// What was read of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// What it says.
    pub scan: Scan,
    /// Of a notebook, the line that each cell begins at, from 1, with the cell's number.
    pub cells: Vec<(u32, u32)>,
}

impl Read {
    /// The notebook's cell that a line is in, and the line in it.
    pub fn cell_of(&self, line: u32) -> Option<(u32, u32)> {
        let (first, cell) = self.cells.iter().rev().find(|(first, _)| *first <= line)?;
        Some((*cell, line - first + 1))
    }
}

/// What a look at a file tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// By which number it would be known again, if that can be relied on.
    pub stamp: Option<u64>,
    /// Whether it is a file itself, and no link to one.
    pub is_plain: bool,
}

/// Looks at a file; links are followed.
pub type Stamp = dyn Fn(&Path) -> Seen + Sync;

/// Reads sources.
pub struct Sources {
    target: Target,
    cache: ScanCache,
    stamp: Box<Stamp>,
}

/// What came of one file, and what the cache is to be told.
struct Outcome {
    read: Read,
    key: Option<Key>,
    seen: Seen,
    encoded: Option<Vec<u8>>,
}

impl Sources {
    /// Reads for a Python, with what the cache knows.
    pub fn new(target: Target, cache: ScanCache, stamp: Box<Stamp>) -> Self {
        Self { target, cache, stamp }
    }

    /// The cache, with all that was read, and what tells whether a file is as it was.
    pub fn into_parts(self) -> (ScanCache, Box<Stamp>) {
        (self.cache, self.stamp)
    }

    /// What a text says that is in no file.
    pub fn read_text(&self, text: &[u8]) -> Read {
        Read { scan: scan(text, &self.target), cells: Vec::new() }
    }

    /// What files say, in their order, and whether each is known to be no link. One that cannot be read has a problem.
    pub fn read_all(&mut self, files: &[(PathBuf, FileForm)]) -> Vec<(Read, bool)> {
        // What is known takes a look each: to call up the other cores takes longer.
        let looked: Vec<_> = files.iter().map(|(path, form)| self.look(path, *form)).collect();
        let unknown = looked.iter().filter(|look| look.is_err()).count();
        let this = &*self;
        let finish = |((path, form), look): (&(PathBuf, FileForm), Result<Outcome, Seen>)| match look {
            Ok(outcome) => outcome,
            Err(seen) => this.read(path, *form, seen),
        };
        let outcomes: Vec<Outcome> = if unknown < PARALLEL_FILES {
            files.iter().zip(looked).map(finish).collect()
        } else {
            files.par_iter().zip(looked).map(finish).collect()
        };
        let mut reads = Vec::with_capacity(outcomes.len());
        for ((path, _), Outcome { read, key, seen, encoded }) in files.iter().zip(outcomes) {
            if let Some(key) = key {
                self.cache.note(path, seen.stamp, key, encoded);
            }
            reads.push((read, seen.is_plain));
        }
        reads
    }

    /// What is known of a file without reading it; what a look tells where that is not enough.
    fn look(&self, path: &Path, form: FileForm) -> Result<Outcome, Seen> {
        let Some(form) = form_byte(form) else {
            // There is nothing in them to follow.
            return Ok(Outcome { read: Read::default(), key: None, seen: Seen::default(), encoded: None });
        };
        let seen = (self.stamp)(path);
        let key = seen.stamp.and_then(|stamp| self.cache.key_of(path, stamp)).filter(|key| key.form == form);
        match key.and_then(|key| Some((key, self.cached(&key)?))) {
            Some((key, read)) => Ok(Outcome { read, key: Some(key), seen, encoded: None }),
            None => Err(seen),
        }
    }

    fn read(&self, path: &Path, form: FileForm, seen: Seen) -> Outcome {
        let content = match content_of(path) {
            Ok(content) => content,
            Err(error) => {
                let problem = Problem { line: 0, message: format!("cannot be read: {}", error.kind()) };
                let scan = Scan { problem: Some(problem), ..Scan::default() };
                return Outcome { read: Read { scan, cells: Vec::new() }, key: None, seen, encoded: None };
            }
        };
        let key = Key::of(&content, form_byte(form).unwrap_or_default());
        if let Some(read) = self.cached(&key) {
            return Outcome { read, key: Some(key), seen, encoded: None };
        }
        let read = self.scan(&content, form);
        let encoded = encode(&read);
        Outcome { read, key: Some(key), seen, encoded: Some(encoded) }
    }

    fn cached(&self, key: &Key) -> Option<Read> {
        decode(self.cache.scan(key)?)
    }

    fn scan(&self, content: &[u8], form: FileForm) -> Read {
        match form {
            FileForm::Notebook => match notebook::scan(content, &self.target) {
                Ok((scan, notebook)) => {
                    let cells = notebook.cells.iter().map(|cell| (cell.first_line, cell.number)).collect();
                    Read { scan, cells }
                }
                Err(message) => {
                    let scan = Scan { problem: Some(Problem { line: 0, message }), ..Scan::default() };
                    Read { scan, cells: Vec::new() }
                }
            },
            FileForm::Python(Form::Bytecode) => Read { scan: bytecode::scan(content), cells: Vec::new() },
            _ => Read { scan: scan(content, &self.target), cells: Vec::new() },
        }
    }
}

/// How files of a form are read; `None` where they are not.
fn form_byte(form: FileForm) -> Option<u8> {
    match form {
        FileForm::Python(Form::Source) | FileForm::Command => Some(0),
        FileForm::Python(Form::Bytecode) => Some(1),
        FileForm::Notebook => Some(2),
        FileForm::Python(Form::Extension) | FileForm::Data => None,
    }
}

/// The content of a file, or of a member of an archive.
fn content_of(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(metadata) if !metadata.is_file() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => fs::read(path),
        Err(error) => match split_archive(path) {
            Some((archive, member)) => read_member(&archive, &member),
            None => Err(error),
        },
    }
}

fn encode(read: &Read) -> Vec<u8> {
    let mut out = Vec::new();
    crate::decode::push_varint(&mut out, read.cells.len() as u64);
    for (line, cell) in &read.cells {
        crate::decode::push_varint(&mut out, u64::from(*line));
        crate::decode::push_varint(&mut out, u64::from(*cell));
    }
    read.scan.encode(&mut out);
    out
}

fn decode(bytes: &[u8]) -> Option<Read> {
    let mut decoder = Decoder::new(bytes);
    let number = |decoder: &mut Decoder<'_>| decoder.varint().ok().and_then(|number| u32::try_from(number).ok());
    let mut cells = Vec::new();
    for _ in 0..decoder.count(2).ok()? {
        cells.push((number(&mut decoder)?, number(&mut decoder)?));
    }
    let scan = Scan::decode(&mut decoder).ok()?;
    Some(Read { scan, cells })
}

/// The lengths and hashes of files that are too long to be tracked, from the cache where that knows them.
pub fn hash_large(cache: &mut ScanCache, stamp: &Stamp, paths: &[PathBuf]) -> HashMap<PathBuf, (u64, ObjectId)> {
    let mut out = HashMap::default();
    for path in paths {
        let seen = stamp(path).stamp;
        let known = seen.and_then(|seen| cache.hash_of(path, seen));
        let hashed = || {
            let mut hasher = blake3::Hasher::new();
            let mut file = fs::File::open(path)?;
            let bytes = io::copy(&mut file, &mut hasher)?;
            Ok::<_, io::Error>((bytes, ObjectId(*hasher.finalize().as_bytes())))
        };
        let Some((bytes, id)) = known.or_else(|| hashed().ok()) else { continue };
        if let Some(seen) = seen {
            cache.note_hash(path, seen, bytes, id);
        }
        out.insert(path.clone(), (bytes, id));
    }
    out
}
