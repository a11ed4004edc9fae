//! Which files are secrets as a whole, and which lines of other files hold a token.
//!
//! The former are left out of snapshots, the latter are stored and warned about: code that is missing from a snapshot
//! cannot be restored, a `.env` that is missing was never part of the code. Both lists hold well-known forms only;
//! nothing here guesses by entropy.

mod tokens;
mod whole_file;

pub use tokens::{Token, find_tokens};
pub use whole_file::{HEAD_BYTES, is_whole_file_secret};

/// How far the header line of a private key is followed: the longest in use has some 40 bytes.
const MAX_KEY_HEADER_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::tokens::*;
    use super::whole_file::*;
    use crate::tracked_path::TrackedPath;

    /// Random-looking text that is made up here, so that no scanner takes this file for a leak.
    fn noise(length: usize, alphabet: &[u8]) -> String {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(*alphabet.get((state >> 33) as usize % alphabet.len()).expect("within the alphabet"))
        };
        (0..length).map(|_| next()).collect()
    }

    const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const MIXED: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const DIGITS: &[u8] = b"0123456789";

    fn pem(kind: &str, body: &str) -> String {
        let dashes = "-".repeat(5);
        format!("{dashes}BEGIN {kind}{dashes}\n{body}\n{dashes}END {kind}{dashes}\n")
    }

    fn private_key(kind: &str) -> String {
        pem(&format!("{kind}PRIVATE {}", "KEY"), &noise(64, MIXED))
    }

    fn is_secret(path: &str, head: impl AsRef<[u8]>) -> bool {
        is_whole_file_secret(&TrackedPath::from_bytes(path).expect("a path"), head.as_ref())
    }

    #[test]
    fn secrets_by_name() {
        for path in [
            ".env",
            "a/b/.env",
            ".ENV",
            ".env.local",
            ".env.production",
            ".env.py",
            "prod.env",
            "config/.staging.env",
            "id_rsa",
            "keys/ID_ED25519",
            "id_ecdsa_sk",
            "cert.p12",
            "cert.PFX",
            "x.jks",
            "release.keystore",
            "passwords.kdbx",
            ".netrc",
            "_netrc",
            ".pypirc",
            ".pgpass",
            ".htpasswd",
            "home/.git-credentials",
            ".aws/credentials",
            "home/.AWS/Credentials",
            ".kaggle/kaggle.json",
            "kaggle.json",
            "credentials.json",
            "service_account.json",
            "my-service-account-key.json",
            "gcp_ServiceAccount_prod.json",
            "client_secret_123.apps.googleusercontent.com.json",
            "secrets.yaml",
            "conf/Secrets.yml",
            "secrets.json",
            "secrets.toml",
            ".streamlit/secrets.toml",
            ".secrets.toml",
            "user_data/config-private.json",
        ] {
            assert!(is_secret(path, b"x"), "{path}");
            assert!(is_secret(path, b""), "{path}, empty");
        }
    }

    #[test]
    fn not_secrets_by_name() {
        for path in [
            ".env.example",
            ".env.sample",
            ".env.template",
            ".env.dist",
            ".env.defaults",
            ".env.production.EXAMPLE",
            "example.env",
            ".envrc",
            "env",
            ".env/lib/site.cfg",
            "environment.py",
            "strategy.env.py",
            "id_rsa.pub",
            "my_id_rsa",
            "credentials",
            "aws/credentials",
            ".aws/config",
            "credentials.py",
            "config.json",
            "docker/config.json",
            "secrets.py",
            "secrets/__init__.py",
            "secrets.md",
            "secrets_manager.json",
            "service.json",
            "account_service.json",
            "service-account.example.json",
            "service_account.py",
            "netrc",
            "monkey.json",
            "p12",
            "keystore",
            "kaggle.json.md",
            "data/prices.csv",
        ] {
            assert!(!is_secret(path, b"x"), "{path}");
        }
    }

    #[test]
    fn secrets_by_content() {
        let rsa = private_key("RSA ");
        let bundle = pem("CERTIFICATE", "MIID") + &private_key("");
        let putty = "PuTTY-User-Key-File-3: ssh-ed25519\n";
        let service = r#"{"type": "service_account", "private_key": "x"}"#;
        let der = [0x30, 0x82, 0x04, 0xa4, 0x02, 0x01, 0x00, 0x02];
        for (path, head) in [
            ("server.pem", rsa.as_bytes()),
            ("server.PEM", bundle.as_bytes()),
            ("server.key", rsa.as_bytes()),
            ("AuthKey.p8", rsa.as_bytes()),
            ("putty.ppk", putty.as_bytes()),
            ("server.key", &der),
            ("ec.der", &[0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30]),
            ("ed25519.der", &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30]),
            ("secring.asc", pem(&format!("PGP PRIVATE {} BLOCK", "KEY"), "").as_bytes()),
            ("deploy", rsa.as_bytes()),
            ("go", rsa.as_bytes()),
            ("deploy.txt", format!("\u{feff}\r\n\n  {rsa}").as_bytes()),
            ("deploy.bak", rsa.replace('\n', "\r\n").as_bytes()),
            ("deploy.txt", putty.as_bytes()),
            ("gcp-prod.json", service.as_bytes()),
            (".docker/config.json", br#"{"auths": {"registry": {"auth": "x"}}}"#),
            (".npmrc", b"//registry.npmjs.org/:_authToken=x"),
        ] {
            assert!(is_secret(path, head), "{path}");
        }
    }

    #[test]
    fn not_secrets_by_content() {
        let rsa = private_key("RSA ");
        let certificate = pem("CERTIFICATE", "MIID");
        let public = pem("PUBLIC KEY", "MIIB");
        let der_certificate = [0x30, 0x82, 0x03, 0xa4, 0x30, 0x82, 0x02, 0x8c];
        for (path, head) in [
            ("ca.pem", certificate.as_bytes()),
            ("public.pem", public.as_bytes()),
            ("slides.key", b"PK\x03\x04"),
            ("ca.der", &der_certificate),
            ("test_tls.py", rsa.as_bytes()),
            ("tls.rs", rsa.as_bytes()),
            ("README.MD", rsa.as_bytes()),
            ("notes.txt", format!("A key begins as\n{rsa}").as_bytes()),
            ("notes.txt", certificate.as_bytes()),
            ("ca.crt", certificate.as_bytes()),
            ("schema.json", br#"{"type": "service_account"}"#),
            (".docker/config.json", br#"{"credsStore": "desktop"}"#),
            (".npmrc", b"save-exact=true"),
            ("empty", b""),
            ("blank", b"\n\n  "),
        ] {
            assert!(!is_secret(path, head), "{path}");
        }
    }

    #[test]
    fn tokens_are_found_where_they_begin() {
        let slack = format!("{}{}-{}", "xoxb-", noise(12, DIGITS), noise(24, MIXED));
        let cases = [
            (["AK", "IA", &noise(16, UPPER)].concat(), "AWS access key id"),
            (["AS", "IA", &noise(16, UPPER)].concat(), "AWS access key id"),
            (["gh", "p_", &noise(36, MIXED)].concat(), "GitHub token"),
            (["gh", "s_", &noise(36, MIXED)].concat(), "GitHub token"),
            (["github", "_pat_", &noise(22, MIXED), "_", &noise(59, MIXED)].concat(), "GitHub token"),
            (slack, "Slack token"),
            (["sk_", "live_", &noise(24, MIXED)].concat(), "Stripe live key"),
            (["rk_", "live_", &noise(99, MIXED)].concat(), "Stripe live key"),
            (["AI", "za", &noise(35, MIXED)].concat(), "Google API key"),
            (["sk", "-", &noise(48, MIXED)].concat(), "API key of the form sk-..."),
            (["sk", "-proj-", &noise(60, MIXED), "_-", &noise(60, MIXED)].concat(), "API key of the form sk-..."),
            ([&noise(9, b"123456789"), ":", "AA", &noise(33, MIXED)].concat(), "Telegram bot token"),
        ];
        for (token, kind) in &cases {
            for (text, line) in [
                (token.clone(), 1),
                (format!("\n\nKEY = '{token}'  # {token}\n"), 3),
                (format!("a\r\n\tKEY={token}"), 2),
                (format!("\"a\\n{token}\\n\""), 1),
                (format!("x\n--{token},"), 2),
                (format!("{}\n{token}", "a_long_name_of_something ".repeat(50)), 2),
                (format!("https://u:{token}@host/"), 1),
            ] {
                if *kind == "Telegram bot token" && text.contains("\\n") {
                    continue;
                }
                assert_eq!(find_tokens(text.as_bytes()), [Token { line, kind }], "{text}");
            }
            for text in [format!("x{token}"), format!("_{token}")] {
                assert_eq!(find_tokens(text.as_bytes()), [], "{text}");
            }
            assert_eq!(find_tokens(format!("{token}\0").as_bytes()), []);
            assert_eq!(find_tokens(format!("{token} {}", " ".repeat(MAX_SEARCHED_BYTES)).as_bytes()), []);
        }
        let all: Vec<String> = cases.iter().map(|(token, _)| format!("{token}\n")).collect();
        let found = find_tokens(all.concat().as_bytes());
        assert_eq!(found.iter().map(|token| token.line).collect::<Vec<_>>(), (1..=MAX_TOKENS).collect::<Vec<_>>());
        let with_key_first = private_key("") + &all.concat();
        let found = find_tokens(with_key_first.as_bytes());
        assert_eq!(found.len(), MAX_TOKENS);
        assert_eq!(found.first(), Some(&Token { line: 1, kind: "private key" }));
    }

    #[test]
    fn what_only_resembles_a_token_is_not_one() {
        for text in [
            ["AK", "IA", "IOSFODNN7EXAMPLE"].concat(),
            ["AK", "IA", &noise(15, UPPER)].concat(),
            ["AK", "IA", &noise(17, UPPER)].concat(),
            ["AK", "IA", &noise(16, UPPER).to_lowercase()].concat(),
            ["AK", "IA", &"X".repeat(16)].concat(),
            ["gh", "p_", &noise(35, MIXED)].concat(),
            ["gh", "p_", &"x".repeat(36)].concat(),
            ["gh", "p_", "1234567890abcdefghijklmnopqrstuvwxyz"].concat(),
            ["gh", "p_", &noise(20, MIXED), &"0".repeat(16)].concat(),
            ["gh", "x_", &noise(36, MIXED)].concat(),
            ["github", "_pat_", &noise(22, MIXED)].concat(),
            "xoxb-your-slack-bot-token-goes-here-please".to_owned(),
            ["sk_", "test_", &noise(24, MIXED)].concat(),
            ["AI", "za", &noise(34, MIXED)].concat(),
            "sk-toggleable__label-arrow-and-a-long-tail-of-names-2".to_owned(),
            ["sk", "-", &noise(30, MIXED)].concat(),
            ["sk", "-", &noise(48, b"abcdefghijklmnop")].concat(),
            ["ri", "sk", "-", &noise(48, MIXED)].concat(),
            ["12345:", "AA", &noise(33, MIXED)].concat(),
            ["12345678901:", "AA", &noise(33, MIXED)].concat(),
            ["x12345678:", "AA", &noise(33, MIXED)].concat(),
            noise(100, MIXED),
            noise(10_000, MIXED),
            "-".repeat(80),
            "a_function_with_a_rather_long_name_in_a_test".to_owned(),
            "blake3:".to_owned() + &noise(64, b"0123456789abcdef"),
        ] {
            assert_eq!(find_tokens(text.as_bytes()), [], "{text}");
        }
    }

    #[test]
    fn private_keys_in_text_need_a_body() {
        let rsa = private_key("RSA ");
        let found = |line| vec![Token { line, kind: "private key" }];
        let legacy = rsa.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
        let armor = pem(&format!("PGP PRIVATE {} BLOCK", "KEY"), &format!("\n{}", noise(64, MIXED)));
        assert_eq!(find_tokens(format!("a\nKEY = '''\n{rsa}'''").as_bytes()), found(3));
        assert_eq!(find_tokens(rsa.replace('\n', "\\n").as_bytes()), found(1));
        assert_eq!(find_tokens(private_key("").as_bytes()), found(1));
        assert_eq!(find_tokens(legacy.as_bytes()), found(1));
        assert_eq!(find_tokens(armor.as_bytes()), found(1));
        let header = format!("PRIVATE {}", "KEY");
        for text in [
            pem(&header, ""),
            pem(&header, "..."),
            pem(&header, &"x".repeat(64)),
            pem(&header, &(noise(50, MIXED) + "EXAMPLE")),
            pem("CERTIFICATE", &noise(64, MIXED)),
            pem(&format!("PUBLIC {}", "KEY"), &noise(64, MIXED)),
            format!("if '{0}BEGIN {header}{0}' in text:\n    pass\n", "-".repeat(5)),
            format!("{header}{}", noise(64, MIXED)),
            pem(&format!("no {header}"), &noise(64, MIXED)),
        ] {
            assert_eq!(find_tokens(text.as_bytes()), [], "{text}");
        }
    }

    #[test]
    fn the_tables_agree_with_the_search() {
        for form in FORMS {
            let shortest = form.heads.iter().map(|head| head.len()).min().unwrap_or(0) + form.length.start();
            assert!(shortest >= MIN_WORD_BYTES, "{}", form.kind);
            assert!(form.heads.iter().all(|head| head.bytes().all(is_word_byte)), "{}", form.kind);
            assert!(
                form.heads.iter().all(|head| head.bytes().next().is_some_and(|b| FIRST_BYTES.contains(&b))),
                "{}",
                form.kind
            );
        }
        for name in RULES.iter().flat_map(|rule| rule.names) {
            assert_eq!(*name, name.to_ascii_lowercase(), "names are compared in lower case");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_searched(bytes in prop::collection::vec(any::<u8>(), 0..300), path in "[a-z./_*]{1,20}") {
            find_tokens(&bytes);
            if let Some(path) = TrackedPath::from_bytes(path) {
                is_whole_file_secret(&path, &bytes);
            }
        }

        #[test]
        fn any_pieces_can_be_searched(pieces in prop::collection::vec(prop::sample::select(vec![
            "AKIA", "sk-", "ghp_", "xoxb-", ":AA", "12345678", "-----", "BEGIN ", "PRIVATE KEY", "\\n", "\n", "-", "é",
            "a7Bc9Qx2",
        ]), 0..60)) {
            let text = pieces.concat();
            let tokens = find_tokens(text.as_bytes());
            prop_assert!(tokens.len() <= MAX_TOKENS);
            prop_assert!(tokens.iter().all(|token| (1..=text.lines().count()).contains(&token.line)));
        }

        #[test]
        fn long_words_are_those_between_other_bytes(
            text in "([a-zA-Z0-9_-]{1,40}|[a-z]{15,25}|[a-z]{60,70}|[a-z]{124,132}|[ .\n@Z\\[`\\{/:]{1,3}){0,12}"
        ) {
            let expected: Vec<&str> =
                text.split(|c: char| !is_word_byte(c as u8)).filter(|word| word.len() >= MIN_WORD_BYTES).collect();
            let mut found: Vec<&str> = Vec::new();
            for_each_long_word(text.as_bytes(), |word| found.push(&text[word]));
            prop_assert_eq!(found, expected);
        }
    }
}
