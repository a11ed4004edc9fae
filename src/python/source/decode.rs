//! From a source's bytes to its text: byte order marks, PEP 263 cookies, and what is wrong with them.

use std::borrow::Cow;

use super::Problem;
use super::encodings::{Encoding, by_name, decoded};

/// The text of a source, and the first thing that Python would refuse it for. The text is never missing: what cannot be
/// decoded is replaced, since imports are ASCII nearly always.
pub(super) fn decode(bytes: &[u8]) -> (Cow<'_, str>, Option<Problem>) {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "UTF-16, which Python does not take for sources".to_owned();
        return (Cow::Borrowed(""), Some(Problem { line: 1, message }));
    }
    let marked = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]);
    let body = marked.unwrap_or(bytes);
    let nul = memchr::memchr(0, body);
    let (text, problem) = decode_body(body.get(..nul.unwrap_or(body.len())).unwrap_or(body), marked.is_some());
    let with_nul = nul.map(|at| at_offset(body, at, "a NUL byte, for which Python refuses it".into()));
    (text, with_nul.or(problem))
}

fn decode_body(body: &[u8], is_marked: bool) -> (Cow<'_, str>, Option<Problem>) {
    let cookie = cookie(body);
    let encoding = match cookie {
        None => Ok(Encoding::Utf8),
        Some((line, name)) => match by_name(name) {
            Some(Encoding::Utf8) => Ok(Encoding::Utf8),
            Some(_) if is_marked => Err((line, format!("encoding {name:?} after a UTF-8 byte order mark"))),
            Some(Encoding::NotForSources) => Err((line, format!("encoding {name:?} is none for sources"))),
            Some(encoding) => Ok(encoding),
            None => Err((line, format!("unknown encoding {name:?}"))),
        },
    };
    match encoding {
        Err((line, message)) => (String::from_utf8_lossy(body), Some(Problem { line, message })),
        Ok(Encoding::Utf8) => match std::str::from_utf8(body) {
            Ok(text) => (Cow::Borrowed(text), None),
            Err(error) => {
                let problem =
                    at_offset(body, error.valid_up_to(), "not UTF-8, and no other encoding is declared".into());
                (String::from_utf8_lossy(body), Some(problem))
            }
        },
        Ok(encoding) => {
            let first = body.iter().position(|byte| *byte >= 0x80);
            let Some(first) = first else { return (String::from_utf8_lossy(body), None) };
            let problem = (encoding == Encoding::Ascii).then(|| at_offset(body, first, "not ASCII as declared".into()));
            (body.iter().map(|byte| decoded(encoding, *byte)).collect::<String>().into(), problem)
        }
    }
}

fn at_offset(body: &[u8], offset: usize, message: String) -> Problem {
    let before = body.get(..offset).unwrap_or(body);
    let ends = memchr::memchr2_iter(b'\n', b'\r', before)
        .filter(|at| before.get(*at) == Some(&b'\n') || before.get(at + 1) != Some(&b'\n'));
    Problem { line: u32::try_from(ends.count() + 1).unwrap_or(u32::MAX), message }
}

/// The cookie in one of the first two lines, and its line.
fn cookie(body: &[u8]) -> Option<(u32, &str)> {
    let mut rest = body;
    for number in 1..=2 {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end)?;
        let text = line.trim_ascii_start();
        let text = text.strip_prefix(b"\x0c").map_or(text, <[u8]>::trim_ascii_start);
        match text.first() {
            Some(b'#') => {
                if let Some(name) = cookie_in(text) {
                    return Some((number, name));
                }
            }
            // The second line has one only below a blank line or a comment.
            Some(_) => return None,
            None => {}
        }
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
    }
    None
}

/// As `coding[=:]\s*([-\w.]+)` finds it in a comment.
fn cookie_in(comment: &[u8]) -> Option<&str> {
    memchr::memmem::find_iter(comment, b"coding").find_map(|at| {
        let after = comment.get(at + b"coding".len()..)?;
        let value = after.strip_prefix(b"=").or_else(|| after.strip_prefix(b":"))?;
        let start = value.iter().position(|byte| *byte != b' ' && *byte != b'\t')?;
        let value = value.get(start..)?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let end = value.iter().position(|byte| !is_name(byte)).unwrap_or(value.len());
        std::str::from_utf8(value.get(..end)?).ok().filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        let (text, problem) = decode(bytes);
        assert_eq!(problem, None, "{bytes:?}");
        text.into_owned()
    }

    fn problem(bytes: &[u8]) -> (u32, String) {
        let problem = decode(bytes).1.unwrap_or_else(|| panic!("{bytes:?} has no problem"));
        (problem.line, problem.message)
    }

    #[test]
    fn cookies_decide() {
        assert_eq!(text(b"\xef\xbb\xbfx = 1"), "x = 1");
        assert_eq!(text(b"\xef\xbb\xbf# coding: utf-8\nx"), "# coding: utf-8\nx");
        assert_eq!(text(b"# -*- coding: latin-1 -*-\n'\xe9'"), "# -*- coding: latin-1 -*-\n'é'");
        assert_eq!(text(b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n'\x80'").chars().nth_back(1), Some('€'));
        assert_eq!(text(b"\n# coding=latin-1\n'\xe9'").chars().nth_back(1), Some('é'));
        assert_eq!(text(b"\r\n# coding=latin-1\r\n'\xe9'").chars().nth_back(1), Some('é'));
        assert_eq!(text(b"# coding: gbk\nx = '\xc4\xe3'"), "# coding: gbk\nx = '\u{fffd}\u{fffd}'");
        assert_eq!(text("é = 1".as_bytes()), "é = 1");
    }

    #[test]
    fn a_cookie_elsewhere_is_none() {
        assert_eq!(problem(b"x = 1\n# coding: latin-1\n'\xe9'").0, 3, "below code");
        assert_eq!(problem(b"#\n#\n# coding: latin-1\n'\xe9'").0, 4, "in the third line");
        assert_eq!(problem(b"'coding: latin-1 \xe9'").0, 1, "in a string");
        assert_eq!(problem(b"# coding latin-1\n'\xe9'").0, 2, "without a colon");
    }

    #[test]
    fn what_python_refuses_is_a_problem_and_is_read_all_the_same() {
        let (text, wrong) = decode(b"import a\nx = '\xff'\nimport b");
        assert_eq!(text, "import a\nx = '\u{fffd}'\nimport b");
        assert_eq!(wrong.map(|problem| problem.line), Some(2));
        assert_eq!(problem(b"# coding: klingon\n"), (1, "unknown encoding \"klingon\"".into()));
        assert!(problem(b"# coding: utf-16\n").1.contains("utf-16"));
        assert!(problem(b"\xef\xbb\xbf# coding: latin-1\n").1.contains("byte order mark"));
        assert!(problem(b"\xff\xfei\0").1.contains("UTF-16"));
        assert_eq!(problem(b"# coding: ascii\n\n'\xe9'").0, 3);
        let (text, wrong) = decode(b"import a\n\0import b");
        assert_eq!(text, "import a\n");
        assert_eq!(wrong.map(|problem| problem.line), Some(2));
    }
}
