//! The bytes of a [`Scan`] in a cache.

use super::{
    Base, FileUse, How, Import, Listed, ListedUse, NamedFile, Package, PathExpression, Problem, Scan, SearchPath,
    SearchPathEdit, When,
};
use crate::decode::{DecodeResult, Decoder, push_varint};

/// For so many at most room is made before they are read.
const MAX_RESERVED: usize = 1024;

impl Scan {
    /// Appends the scan in few bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push_varint(out, self.imports.len() as u64);
        for import in &self.imports {
            push_varint(out, import.line.into());
            push_text(out, &import.module);
            push_varint(out, import.level.into());
            push_names(out, import.names.as_deref());
            out.push(import.how as u8 | (import.when as u8) << 4);
        }
        push_varint(out, self.files.len() as u64);
        for file in &self.files {
            push_varint(out, file.line.into());
            push_path(out, &file.path);
            let kind = match &file.usage {
                FileUse::Data => 0,
                FileUse::Code => 1,
                FileUse::Library => 2,
                FileUse::Resource(_) => 3,
                FileUse::Process => 4,
            };
            out.push(kind | (file.when as u8) << 4);
            if let FileUse::Resource(package) = &file.usage {
                push_varint(out, package.level.into());
                push_text(out, &package.module);
            }
        }
        push_varint(out, self.listings.len() as u64);
        for listed in &self.listings {
            push_varint(out, listed.line.into());
            push_path(out, &listed.path);
            out.push(listed.usage as u8 | (listed.when as u8) << 4);
        }
        push_varint(out, self.search_path.len() as u64);
        for edit in &self.search_path {
            push_varint(out, edit.line.into());
            push_path(out, &edit.path);
            out.push(edit.target as u8 | u8::from(edit.first) << 3 | (edit.when as u8) << 4);
        }
        push_varint(out, self.written.len() as u64);
        self.written.iter().for_each(|path| push_path(out, path));
        push_varint(out, self.constants.len() as u64);
        for (name, path) in &self.constants {
            push_text(out, name);
            push_path(out, path);
        }
        // A line is one higher, to tell none from the first.
        push_varint(out, self.loads_unknown.map_or(0, |line| u64::from(line) + 1));
        push_names(out, Some(&self.importers));
        push_names(out, self.exports.as_deref());
        out.push(u8::from(self.problem.is_some()));
        if let Some(problem) = &self.problem {
            push_varint(out, problem.line.into());
            push_text(out, &problem.message);
        }
    }

    /// Reads what [`Scan::encode`] wrote.
    pub fn decode(input: &mut Decoder<'_>) -> DecodeResult<Self> {
        let mut scan = Self::default();
        let count = input.count(5)?;
        scan.imports.reserve_exact(count.min(MAX_RESERVED));
        for _ in 0..count {
            let (line, module, level, names) =
                (read_u32(input)?, read_text(input)?, read_u32(input)?, read_names(input)?);
            let kinds = input.u8()?;
            scan.imports.push(Import { line, module, level, names, how: how(kinds & 0xf)?, when: when(kinds >> 4)? });
        }
        for _ in 0..input.count(4)? {
            let (line, path, kinds) = (read_u32(input)?, read_path(input)?, input.u8()?);
            let usage = match kinds & 0xf {
                0 => FileUse::Data,
                1 => FileUse::Code,
                2 => FileUse::Library,
                3 => FileUse::Resource(Package { level: read_u32(input)?, module: read_text(input)? }),
                4 => FileUse::Process,
                other => return Err(format!("use {other} is unknown")),
            };
            scan.files.push(NamedFile { line, path, usage, when: when(kinds >> 4)? });
        }
        for _ in 0..input.count(4)? {
            let (line, path, kinds) = (read_u32(input)?, read_path(input)?, input.u8()?);
            scan.listings.push(Listed { line, path, usage: listed_use(kinds & 0xf)?, when: when(kinds >> 4)? });
        }
        for _ in 0..input.count(4)? {
            let (line, path, kinds) = (read_u32(input)?, read_path(input)?, input.u8()?);
            let target = match kinds & 0x7 {
                0 => SearchPath::Global,
                1 => SearchPath::Site,
                2 => SearchPath::Removed,
                3 => SearchPath::Working,
                4 => SearchPath::OwnPackage,
                5 => SearchPath::EveryPortion,
                other => return Err(format!("search path {other} is unknown")),
            };
            let (first, when) = (kinds & 8 != 0, when(kinds >> 4)?);
            scan.search_path.push(SearchPathEdit { line, path, target, first, when });
        }
        for _ in 0..input.count(2)? {
            scan.written.push(read_path(input)?);
        }
        for _ in 0..input.count(3)? {
            scan.constants.push((read_text(input)?, read_path(input)?));
        }
        if let Some(line) = input.varint()?.checked_sub(1) {
            scan.loads_unknown = Some(u32::try_from(line).map_err(|_| "a number of over 32 bits")?);
        }
        scan.importers = read_names(input)?.ok_or("no list of importers")?;
        scan.exports = read_names(input)?;
        if input.u8()? != 0 {
            scan.problem = Some(Problem { line: read_u32(input)?, message: read_text(input)? });
        }
        Ok(scan)
    }
}

fn how(kind: u8) -> DecodeResult<How> {
    let all = [
        How::Statement,
        How::Call,
        How::Prefix,
        How::AllSubmodules,
        How::AllBelow,
        How::EntryPoints,
        How::Given,
        How::Literal,
    ];
    all.into_iter().find(|how| *how as u8 == kind).ok_or_else(|| format!("kind of import {kind} is unknown"))
}

fn listed_use(kind: u8) -> DecodeResult<ListedUse> {
    [ListedUse::Data, ListedUse::OneOf, ListedUse::Modules, ListedUse::PublicModules]
        .into_iter()
        .find(|usage| *usage as u8 == kind)
        .ok_or_else(|| format!("use {kind} of listed files is unknown"))
}

fn when(kind: u8) -> DecodeResult<When> {
    [When::Always, When::Conditional, When::MainOnly, When::Lazy, When::TypeOnly, When::Never]
        .into_iter()
        .find(|when| *when as u8 == kind)
        .ok_or_else(|| format!("condition {kind} is unknown"))
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn read_text(input: &mut Decoder<'_>) -> DecodeResult<String> {
    let count = input.count(1)?;
    std::str::from_utf8(input.take(count)?).map(str::to_owned).map_err(|e| e.to_string())
}

fn read_u32(input: &mut Decoder<'_>) -> DecodeResult<u32> {
    u32::try_from(input.varint()?).map_err(|_| "a number of over 32 bits".to_owned())
}

/// The count is one higher, to tell none from no names.
fn push_names(out: &mut Vec<u8>, names: Option<&[String]>) {
    push_varint(out, names.map_or(0, |names| names.len() as u64 + 1));
    names.into_iter().flatten().for_each(|name| push_text(out, name));
}

fn read_names(input: &mut Decoder<'_>) -> DecodeResult<Option<Vec<String>>> {
    let Some(count) = input.varint()?.checked_sub(1) else { return Ok(None) };
    // Each takes a byte at least, so that a count that is not true ends here and not in memory.
    if count > input.rest().len() as u64 {
        return Err(format!("{count} names do not fit into {} bytes", input.rest().len()));
    }
    let mut names = Vec::with_capacity(usize::try_from(count).unwrap_or(MAX_RESERVED).min(MAX_RESERVED));
    for _ in 0..count {
        names.push(read_text(input)?);
    }
    Ok(Some(names))
}

fn push_path(out: &mut Vec<u8>, path: &PathExpression) {
    let base = match path.base {
        Base::Working => 0,
        Base::Absolute => 1,
        Base::Package => 2,
        Base::Source(up) => u64::from(up) * 2 + 3,
        Base::Main(up) => u64::from(up) * 2 + 4,
    };
    push_varint(out, base);
    push_text(out, &path.rest);
}

fn read_path(input: &mut Decoder<'_>) -> DecodeResult<PathExpression> {
    let base = match input.varint()? {
        0 => Base::Working,
        1 => Base::Absolute,
        2 => Base::Package,
        other => {
            let up = u32::try_from((other - 3) / 2).map_err(|_| "a path from nowhere")?;
            if other % 2 == 1 { Base::Source(up) } else { Base::Main(up) }
        }
    };
    Ok(PathExpression { base, rest: read_text(input)? })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn path() -> impl Strategy<Value = PathExpression> {
        let base = prop_oneof![
            Just(Base::Working),
            Just(Base::Absolute),
            Just(Base::Package),
            any::<u32>().prop_map(Base::Source),
            any::<u32>().prop_map(Base::Main)
        ];
        (base, ".{0,8}").prop_map(|(base, rest)| PathExpression { base, rest })
    }

    fn any_when() -> impl Strategy<Value = When> {
        (0u8..6).prop_map(|kind| when(kind).expect("known"))
    }

    fn scan() -> impl Strategy<Value = Scan> {
        let import = (any::<u32>(), ".{0,8}", any::<u32>(), option::of(vec(".{0,4}", 0..3)), 0u8..8, any_when())
            .prop_map(|(line, module, level, names, kind, when)| Import {
                line,
                module,
                level,
                names,
                how: how(kind).expect("known"),
                when,
            });
        let usage = prop_oneof![
            Just(FileUse::Data),
            Just(FileUse::Code),
            Just(FileUse::Library),
            Just(FileUse::Process),
            (any::<u32>(), ".{0,8}").prop_map(|(level, module)| FileUse::Resource(Package { level, module })),
        ];
        let file = (any::<u32>(), path(), usage, any_when()).prop_map(|(line, path, usage, when)| NamedFile {
            line,
            path,
            usage,
            when,
        });
        let target = prop_oneof![
            Just(SearchPath::Global),
            Just(SearchPath::Site),
            Just(SearchPath::Removed),
            Just(SearchPath::Working),
            Just(SearchPath::OwnPackage),
            Just(SearchPath::EveryPortion)
        ];
        let listed = (any::<u32>(), path(), 0u8..4, any_when()).prop_map(|(line, path, usage, when)| Listed {
            line,
            path,
            usage: listed_use(usage).expect("known"),
            when,
        });
        let edit = (any::<u32>(), path(), target, any::<bool>(), any_when())
            .prop_map(|(line, path, target, first, when)| SearchPathEdit { line, path, target, first, when });
        let problem = (any::<u32>(), ".{0,8}").prop_map(|(line, message)| Problem { line, message });
        let exports = (option::of(vec(".{0,4}", 0..3)), option::of(any::<u32>()), vec(".{0,4}", 0..3));
        let lists = (vec(import, 0..4), vec(file, 0..4), vec(listed, 0..4), vec(edit, 0..4), vec(path(), 0..4));
        let constants = vec((".{0,8}", path()), 0..4);
        (lists, constants, exports, option::of(problem)).prop_map(
            |(
                (imports, files, listings, search_path, written),
                constants,
                (exports, loads_unknown, importers),
                problem,
            )| Scan {
                imports,
                files,
                listings,
                search_path,
                written,
                constants,
                loads_unknown,
                importers,
                exports,
                problem,
            },
        )
    }

    proptest! {
        #[test]
        fn scans_round_trip(scan in scan()) {
            let mut bytes = Vec::new();
            scan.encode(&mut bytes);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(Scan::decode(&mut decoder), Ok(scan));
            prop_assert_eq!(decoder.finish(), Ok(()));
            for end in 0..bytes.len() {
                prop_assert!(Scan::decode(&mut Decoder::new(&bytes[..end])).is_err(), "cut at {}", end);
            }
        }

        #[test]
        fn random_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Scan::decode(&mut Decoder::new(&bytes));
        }
    }
}
