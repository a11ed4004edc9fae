//! The encodings of PEP 263 cookies that matter, in Python's spellings of them.

/// How a source's bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Ascii,
    Latin1,
    Latin9,
    Cp1252,
    /// One that keeps ASCII as it is; of the rest nothing is known here.
    Other,
    /// One that Python does not take for sources: UTF-16 and its like.
    NotForSources,
}

/// Encodings that keep ASCII as it is and that Python knows, with `_` for any run of other characters.
const OTHERS: &[&str] = &[
    "932",
    "936",
    "949",
    "950",
    "cp932",
    "cp936",
    "cp949",
    "cp950",
    "big5",
    "big5_tw",
    "big5hkscs",
    "big5_hkscs",
    "hkscs",
    "csbig5",
    "euc_cn",
    "euc_jp",
    "eucjp",
    "ujis",
    "u_jis",
    "euc_jis_2004",
    "euc_jisx0213",
    "euc_kr",
    "euckr",
    "korean",
    "ksc5601",
    "ks_c_5601",
    "ks_c_5601_1987",
    "ksx1001",
    "ks_x_1001",
    "gb2312",
    "gb2312_80",
    "chinese",
    "csiso58gb231280",
    "eucgb2312_cn",
    "gb18030",
    "gb18030_2000",
    "gbk",
    "ms936",
    "hz",
    "hzgb",
    "hz_gb",
    "johab",
    "cp1361",
    "ms1361",
    "shift_jis",
    "shiftjis",
    "sjis",
    "s_jis",
    "csshiftjis",
    "shift_jis_2004",
    "shiftjis2004",
    "shift_jisx0213",
    "ms932",
    "mskanji",
    "ms_kanji",
    "windows_31j",
    "uhc",
    "ms949",
    "ms950",
    "koi8_r",
    "cskoi8r",
    "koi8_u",
    "koi8_t",
    "kz1048",
    "cyrillic",
    "greek",
    "greek8",
    "hebrew",
    "arabic",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin10",
    "l2",
    "l3",
    "l4",
    "l5",
    "l6",
    "l7",
    "l8",
    "l10",
    "thai",
    "tis620",
    "tis_620",
    "mac_roman",
    "macroman",
    "macintosh",
    "mac_cyrillic",
    "maccyrillic",
    "mac_greek",
    "macgreek",
    "mac_iceland",
    "mac_latin2",
    "mac_turkish",
    "macturkish",
    "hp_roman8",
    "roman8",
    "ptcp154",
    "pt154",
    "iso2022_jp",
    "iso2022jp",
    "iso_2022_jp",
    "iso2022_kr",
    "iso_2022_kr",
    "mbcs",
    "ansi",
    "dbcs",
    "oem",
    "raw_unicode_escape",
    "unicode_escape",
    "palmos",
];

/// The encoding that a cookie names; `None` where Python knows none of that name.
pub(super) fn by_name(name: &str) -> Option<Encoding> {
    let name = normalised(name);
    let known = match name.as_str() {
        "utf_8" | "utf8" | "u8" | "utf" | "utf8_ucs2" | "utf8_ucs4" | "cp65001" | "utf_8_sig" | "utf8_sig" => {
            Encoding::Utf8
        }
        "ascii" | "us_ascii" | "646" | "us" | "iso646_us" | "iso_646.irv_1991" | "ansi_x3.4_1968"
        | "ansi_x3_4_1968" | "cp367" | "ibm367" | "csascii" => Encoding::Ascii,
        "latin_1" | "latin1" | "latin" | "l1" | "iso_8859_1" | "iso8859_1" | "iso8859" | "8859" | "cp819"
        | "ibm819" | "iso_8859_1_1987" | "iso_ir_100" | "csisolatin1" => Encoding::Latin1,
        "iso_8859_15" | "iso8859_15" | "latin_9" | "latin9" | "l9" => Encoding::Latin9,
        "cp1252" | "1252" | "windows_1252" => Encoding::Cp1252,
        "utf_7" | "utf7" | "u7" | "unicode_1_1_utf_7" => Encoding::Other,
        name if ["utf_16", "utf16", "utf_32", "utf32", "u16", "u32"].iter().any(|wide| name.starts_with(wide)) => {
            Encoding::NotForSources
        }
        name if OTHERS.contains(&name) || is_numbered(name) => Encoding::Other,
        _ => return None,
    };
    Some(known)
}

/// As Python's codec search has it: lower case, and one `_` for whatever stands between letters and digits.
fn normalised(name: &str) -> String {
    let mut out = String::new();
    let mut gap = false;
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '.' {
            if gap && !out.is_empty() {
                out.push('_');
            }
            gap = false;
            out.push(c.to_ascii_lowercase());
        } else {
            gap = true;
        }
    }
    out
}

/// `cp1251`, `iso8859-2`, `windows-1250` and their like.
fn is_numbered(name: &str) -> bool {
    const CODE_PAGES: &[&str] = &[
        "437", "720", "737", "775", "850", "852", "855", "856", "857", "858", "860", "861", "862", "863", "864", "865",
        "866", "869", "874", "1006", "1125", "1250", "1251", "1253", "1254", "1255", "1256", "1257", "1258",
    ];
    let part = |prefixes: &[&str]| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    if let Some(number) = part(&["iso_8859_", "iso8859_"]) {
        return number.parse::<u8>().is_ok_and(|number| (2..=16).contains(&number) && number != 12);
    }
    CODE_PAGES.contains(&part(&["cp", "ibm", "windows_"]).unwrap_or(name))
}

/// What one byte of a single-byte encoding stands for.
pub(super) fn decoded(encoding: Encoding, byte: u8) -> char {
    const CP1252: [char; 32] = [
        '€', '\u{fffd}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{fffd}', 'Ž', '\u{fffd}',
        '\u{fffd}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{fffd}', 'ž', 'Ÿ',
    ];
    match (encoding, byte) {
        (_, 0..0x80) | (Encoding::Latin1, _) => char::from(byte),
        (Encoding::Cp1252, 0x80..0xa0) => CP1252.get(usize::from(byte - 0x80)).copied().unwrap_or('\u{fffd}'),
        (Encoding::Cp1252, _) => char::from(byte),
        (Encoding::Latin9, _) => match byte {
            0xa4 => '€',
            0xa6 => 'Š',
            0xa8 => 'š',
            0xb4 => 'Ž',
            0xb8 => 'ž',
            0xbc => 'Œ',
            0xbd => 'œ',
            0xbe => 'Ÿ',
            other => char::from(other),
        },
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_lead_to_their_encoding() {
        for (name, expected) in [
            ("utf-8", Encoding::Utf8),
            ("UTF8", Encoding::Utf8),
            ("utf_8", Encoding::Utf8),
            ("latin-1", Encoding::Latin1),
            ("ISO-8859-1", Encoding::Latin1),
            ("iso-8859-15", Encoding::Latin9),
            ("iso_8859-15", Encoding::Latin9),
            ("cp1252", Encoding::Cp1252),
            ("windows-1252", Encoding::Cp1252),
            ("us-ascii", Encoding::Ascii),
            ("gbk", Encoding::Other),
            ("Shift_JIS", Encoding::Other),
            ("euc-kr", Encoding::Other),
            ("cp1251", Encoding::Other),
            ("iso-8859-5", Encoding::Other),
            ("koi8-r", Encoding::Other),
            ("utf-16", Encoding::NotForSources),
            ("utf-32-le", Encoding::NotForSources),
        ] {
            assert_eq!(by_name(name), Some(expected), "{name}");
        }
        for unknown in ["", "utf-9", "klingon", "iso-8859-12", "cp9999", "-"] {
            assert_eq!(by_name(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn bytes_stand_for_what_the_tables_say() {
        assert_eq!(decoded(Encoding::Cp1252, 0x80), '€');
        assert_eq!(decoded(Encoding::Cp1252, 0x9f), 'Ÿ');
        assert_eq!(decoded(Encoding::Cp1252, 0xe9), 'é');
        assert_eq!(decoded(Encoding::Latin1, 0xe9), 'é');
        assert_eq!(decoded(Encoding::Latin9, 0xa4), '€');
        assert_eq!(decoded(Encoding::Latin9, 0xe9), 'é');
        assert_eq!(decoded(Encoding::Other, 0xe9), '\u{fffd}');
    }
}
