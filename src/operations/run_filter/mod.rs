//! The language of `runsnap list --where` and `--sort`: keys that name what is known of a run, and conditions on them.
//!
//! ```text
//! metrics.sharpe > 1.5 and (params.fast in (5, 10) or not tag = 'draft') and time >= '2026-11-22'
//! ```
//!
//! - A condition is `KEY OPERATOR VALUE` with `=` (or `==`), `!=`, `<`, `<=`, `>`, `>=`; `KEY in (VALUE, ...)`;
//!   `KEY ~ 'part'`, which is true for text that contains the part as it is written; `KEY exists`, or the key alone,
//!   which is true for everything but a missing value, null and `false`.
//! - `not` binds closer than `and`, `and` closer than `or`. The words of the language may be in capitals.
//! - A value is a number, text in `'` or `"`, `true`, `false` or `null`. The escapes in quotes are `\\`, `\'`, `\"`,
//!   `` \` ``, `\n`, `\r` and `\t`.
//! - A key is one of [`FIELDS`] (`tag` and `tags` are the same), or `params.NAME`, `metrics.NAME`, `environment.NAME`.
//!   `NAME` has letters, digits, `_`, `-` and `.`, any other is put in backticks: `` params.`odd key` ``. A dot also
//!   leads into a parameter that is a mapping. Any other word is the name of a parameter or else of a metric:
//!   `sharpe > 1`; in backticks that holds for the words of the language too.
//! - Numbers compare by value, text by its bytes, `false` is less than `true`. Values of different types are never
//!   equal and neither is less: the number 5 is not the text `'5'`.
//! - Null is as good as missing. A comparison with a missing value is false, `!=` included; only `KEY = null` and a
//!   list with `null` in it are true.
//! - A list, such as the tags, satisfies a condition when one of its elements does: `tag != 'a'` means that some other
//!   tag is there, `not tag = 'a'` that this one is not.

mod columns;
mod parser;

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

pub use columns::Bound;
use parser::{Kind, Parser};

use crate::error::Result;
use crate::store::Run;

/// The keys that are not names of parameters, metrics or versions.
pub const FIELDS: [&str; 15] = [
    "bytes",
    "entry_point",
    "exit_status",
    "files",
    "git_commit",
    "host",
    "name",
    "new_bytes",
    "project",
    "run",
    "snapshot",
    "sweep",
    "tag",
    "tags",
    "time",
];

/// A condition on runs.
#[derive(Debug, Clone)]
pub struct Filter {
    condition: Condition,
}

impl Filter {
    /// Reads a condition. An error names the place and what was expected there.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser::new("filter", text);
        let condition = parser.any_of()?;
        match parser.token.kind {
            Kind::End => Ok(Self { condition }),
            _ => Err(parser.expected("an operator (= != < <= > >= ~ in exists and or) or the end")),
        }
    }

    /// Runs of a project, of a sweep, or of all.
    pub fn of(project: Option<&str>, sweep: Option<&str>) -> Self {
        let is = |(name, value): (&str, Option<&str>)| {
            let key = Key { place: Place::Field, name: name.to_owned() };
            Some(Condition::Test(key, Test::Compare(Operator::Equal, value?.into())))
        };
        let parts = [("project", project), ("sweep", sweep)].into_iter().filter_map(is);
        Self { condition: Condition::AllOf(parts.collect()) }
    }

    /// Runs of exactly that name.
    pub fn named(name: &str) -> Self {
        Self::on_name(Test::Compare(Operator::Equal, name.into()))
    }

    /// Runs whose names begin so.
    pub fn name_begins(begin: &str) -> Self {
        Self::on_name(Test::Begins(begin.to_owned()))
    }

    fn on_name(test: Test) -> Self {
        Self { condition: Condition::Test(Key { place: Place::Field, name: "name".to_owned() }, test) }
    }

    /// Runs that this and another filter hold for.
    pub fn and(self, other: Option<Self>) -> Self {
        let parts = std::iter::once(self).chain(other).map(|filter| filter.condition);
        Self { condition: Condition::AllOf(parts.collect()) }
    }

    /// Whether the condition holds for a run.
    pub fn matches(&self, run: &Run) -> bool {
        self.condition.holds(run)
    }
}

/// The name of something that is known of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    place: Place,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Field,
    Params,
    Metrics,
    Environment,
    ParamsOrMetrics,
    /// The folder of a run's two files, which filters do not know.
    RunFolder,
    /// The packs that its capture wrote, which filters do not know.
    Packs,
    /// The tags that it was captured with, which filters do not tell from later ones.
    FirstTags,
}

impl Key {
    /// Reads a key.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser::new("key", text);
        let key = parser.key()?;
        match parser.token.kind {
            Kind::End => Ok(key),
            _ => Err(parser.expected("the end of the key (quote odd names: params.`odd key`)")),
        }
    }

    /// One of [`FIELDS`].
    pub fn field(name: &str) -> Self {
        Self { place: Place::Field, name: name.to_owned() }
    }

    /// The packs that the run's capture wrote.
    pub fn packs() -> Self {
        Self { place: Place::Packs, name: String::new() }
    }

    /// The tags that the run was captured with.
    pub fn first_tags() -> Self {
        Self { place: Place::FirstTags, name: String::new() }
    }

    /// The path of the run's folder.
    pub fn run_folder() -> Self {
        Self { place: Place::RunFolder, name: String::new() }
    }

    /// What a run has under the key. Tags are a list, no tags are a missing value.
    pub fn value(&self, run: &Run) -> Option<Value> {
        self.find(run).map(Cow::into_owned)
    }

    /// The ascending order of two values: numbers, text, booleans, lists, mappings, then null, then what is missing.
    pub fn compare(a: &Option<Value>, b: &Option<Value>) -> Ordering {
        Self::compare_in_order(a, b, false)
    }

    /// The ascending or descending order of two values. Null and what is missing come last in both.
    pub fn compare_in_order(a: &Option<Value>, b: &Option<Value>, descending: bool) -> Ordering {
        let present = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
        match (a, b) {
            (Some(a), Some(b)) if !a.is_null() && !b.is_null() => {
                let ascending = compare_values(a, b);
                if descending { ascending.reverse() } else { ascending }
            }
            _ => (!present(a), a.is_none()).cmp(&(!present(b), b.is_none())),
        }
    }

    fn find<'a>(&self, run: &'a Run) -> Option<Cow<'a, Value>> {
        let (params, metrics) = (&run.start.params, &run.metrics);
        match self.place {
            Place::Field => field(&self.name, run).map(Cow::Owned),
            Place::Params => look_up(params, &self.name).map(Cow::Borrowed),
            Place::Metrics => look_up(metrics, &self.name).map(Cow::Borrowed),
            Place::Packs => Some(Cow::Owned(run.start.packs.as_slice().into())),
            Place::FirstTags => Some(Cow::Owned(run.start.tags.as_slice().into())),
            Place::RunFolder => run.start.run_folder.as_ref().map(|folder| Cow::Owned(folder.path.as_str().into())),
            Place::Environment => run.start.environment.get(&self.name).map(|text| Cow::Owned(text.as_str().into())),
            Place::ParamsOrMetrics => {
                look_up(params, &self.name).or_else(|| look_up(metrics, &self.name)).map(Cow::Borrowed)
            }
        }
    }
}

/// Reads a sort key, and whether a `-` before it asks for descending order.
pub fn parse_sort(text: &str) -> Result<(Key, bool)> {
    match text.trim_start().strip_prefix('-') {
        Some(key) => Ok((Key::parse(key)?, true)),
        None => Ok((Key::parse(text)?, false)),
    }
}

/// The value of one of [`FIELDS`].
fn field(name: &str, run: &Run) -> Option<Value> {
    let start = &run.start;
    let text = |value: &Option<String>| value.as_deref().map(Value::from);
    match name {
        "bytes" => Some(start.bytes.into()),
        "entry_point" => {
            start.entry_point.as_ref().and_then(|entry| entry.path.as_ref()).map(|path| path.to_string().into())
        }
        // A process that a signal ended has none.
        "exit_status" => run.exit_status.map(Value::from),
        "files" => Some(start.files.into()),
        "git_commit" => text(&start.git_commit),
        "host" => text(&start.host),
        "name" => text(&start.name),
        "new_bytes" => Some(start.new_bytes.into()),
        "project" => Some(start.project.path.as_str().into()),
        "run" => Some(start.run.to_string().into()),
        "snapshot" => Some(start.snapshot.to_string().into()),
        "sweep" => text(&start.sweep),
        "tag" | "tags" => (!run.tags.is_empty()).then(|| run.tags.as_slice().into()),
        "time" => Some(start.time.as_str().into()),
        _ => None,
    }
}

/// The value under `name`, else under its parts in mappings inside mappings.
fn look_up<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        look_up(map.get(outer)?.as_object()?, inner)
    })
}

#[derive(Debug, Clone)]
enum Condition {
    AllOf(Vec<Condition>),
    AnyOf(Vec<Condition>),
    Not(Box<Condition>),
    Test(Key, Test),
}

impl Condition {
    fn holds(&self, run: &Run) -> bool {
        match self {
            Self::AllOf(parts) => parts.iter().all(|part| part.holds(run)),
            Self::AnyOf(parts) => parts.iter().any(|part| part.holds(run)),
            Self::Not(inner) => !inner.holds(run),
            Self::Test(key, test) => test.holds(key.find(run).as_deref()),
        }
    }
}

#[derive(Debug, Clone)]
enum Test {
    Exists,
    Compare(Operator, Value),
    In(Vec<Value>),
    Contains(String),
    /// What no filter can say, but a prefix of a name means.
    Begins(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        let value = value.filter(|value| !value.is_null());
        match (self, value) {
            (Self::Exists, value) => value.is_some_and(|value| *value != Value::Bool(false)),
            (Self::Compare(Operator::Equal, Value::Null), value) => value.is_none(),
            (Self::Compare(Operator::NotEqual, Value::Null), value) => value.is_some(),
            (Self::In(list), None) => list.contains(&Value::Null),
            (_, None) => false,
            (test, Some(Value::Array(elements))) => elements.iter().any(|element| test.holds_for_one(element)),
            (test, Some(value)) => test.holds_for_one(value),
        }
    }

    fn holds_for_one(&self, value: &Value) -> bool {
        match self {
            Self::Exists => true,
            Self::Compare(operator, literal) => operator.holds(value, literal),
            Self::In(list) => list.iter().any(|literal| Operator::Equal.holds(value, literal)),
            Self::Contains(part) => value.as_str().is_some_and(|text| text.contains(part)),
            Self::Begins(part) => value.as_str().is_some_and(|text| text.starts_with(part)),
        }
    }
}

impl Operator {
    fn of(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "=" | "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    fn holds(self, a: &Value, b: &Value) -> bool {
        let order = compare_values(a, b);
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            _ if type_rank(a) != type_rank(b) => false,
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A total order of all values; those of different types are never equal.
fn compare_values(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let differing = a.iter().zip(b).map(|(a, b)| compare_values(a, b)).find(|order| order.is_ne());
            differing.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let (a, b) = (sorted(a), sorted(b));
            let pairs = a.iter().zip(&b);
            let mut orders = pairs.map(|((ak, av), (bk, bv))| ak.cmp(bk).then_with(|| compare_values(av, bv)));
            orders.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => type_rank(a).cmp(&type_rank(b)),
    }
}

fn type_rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

/// By value: an integer is never rounded to a float on the way.
fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    let integer = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    let float = |n: &Number| n.as_f64().unwrap_or(0.0);
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_with_float(a, float(b)),
        (None, Some(b)) => compare_with_float(b, float(a)).reverse(),
        // JSON has no NaN.
        (None, None) => float(a).partial_cmp(&float(b)).unwrap_or(Ordering::Equal),
    }
}

fn compare_with_float(integer: i128, float: f64) -> Ordering {
    let whole = float.trunc();
    // The conversion saturates, far outside of what JSON integers can be.
    integer.cmp(&(whole as i128)).then_with(|| 0.0.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::parser::MAX_DEPTH;
    use super::*;

    fn run() -> Run {
        let start = json!({
            "run": "0".repeat(31) + "a",
            "time": "2026-11-22T10:00:00.000000Z",
            "name": "base-1",
            "snapshot": "cd".repeat(32),
            "files": 3, "bytes": 9_007_199_254_740_993_u64, "new_bytes": 0,
            "project": {"path": "strategies", "root": "/home/u/strategies"},
            "entry_point": {"path": "src/momentum.py", "kind": "script", "found_by": "command_line", "confidence": 1.0},
            "tracked_by": "tree", "file_status": "verified",
            "params": {
                "fast": 10, "ratio": 0.25, "mode": "long", "text5": "5", "on": true, "off": false, "nothing": null,
                "odd key": 1, "a-b.c": 2, "risk": {"stop": {"loss": 3}}, "symbols": ["BTC", "ETH"], "empty": [],
                "and": 7, "both": 1, "größe": 4, "huge": u64::MAX, "low": i64::MIN, "quote'`\\": 8,
                "lines": "a\tb\r\n"
            },
            "metrics": {"sharpe": 0.1},
            "environment": {"runsnap": "0.0.1", "python": "3.13.1"},
        });
        Run {
            start: serde_json::from_value(start).expect("a start record"),
            metrics: json!({"sharpe": 1.75, "both": 2, "trades": -3}).as_object().expect("an object").clone(),
            tags: vec!["draft".into(), "v2".into()],
            exit_status: Some(Some(0)),
        }
    }

    fn holds(text: &str) -> bool {
        Filter::parse(text).expect(text).matches(&run())
    }

    fn error(text: &str) -> String {
        let error = Filter::parse(text).map(|filter| format!("{filter:?}")).expect_err(text).to_string();
        assert!(error.starts_with("Not a filter: at character "), "{error}");
        assert!(!error.chars().any(char::is_control), "{error}");
        error
    }

    #[test]
    fn conditions_that_hold() {
        for text in [
            "metrics.sharpe > 1.5 and params.fast < 20",
            "metrics.sharpe>1.5 and(params.fast<20)",
            "name = 'base-1'",
            "name == \"base-1\"",
            "name ~ 'ase' and not name ~ 'ASE'",
            "run ~ '000a'",
            "run = '0000000000000000000000000000000a'",
            "snapshot ~ 'cdcd'",
            "time >= '2026-11-22' and time < '2026-11-23'",
            "project = 'strategies' and entry_point = 'src/momentum.py'",
            "files = 3 and files = 3.0 and files = +3 and files = 3e0 and files != 4",
            "bytes = 9007199254740993 and bytes > 9007199254740992 and bytes > 9007199254740992.0",
            "new_bytes = 0 and new_bytes exists and new_bytes",
            "exit_status = 0",
            "tag = 'draft' and tags = 'v2' and tag != 'draft' and tag in ('v2') and tag ~ 'raf'",
            "not tag = 'v3' and tag > 'e'",
            "params.mode in ('short', 'long') and params.fast in (10)",
            "params.ratio = .25 and params.ratio > -1 and metrics.trades < 0 and metrics.trades = -3",
            "params.on and params.on = true and params.on > false and params.off = False",
            "params.x = NULL AND NOT params.off OR missing = TRUE",
            "params.nothing = null and params.missing = null and params.missing = None and params.fast != null",
            "params.missing in (1, null)",
            "params.`odd key` = 1 and params.a-b.c = 2 and `odd key` = 1",
            r"params.`quote\'\`\\` = 8",
            r#"params.lines = 'a\tb\r\n' and params.lines = "a\tb\r\n""#,
            "params.risk.stop.loss = 3 and risk.stop.loss = 3 and params.risk exists",
            "params.symbols = 'ETH' and params.empty exists",
            "params.and = 7 and `and` = 7",
            "params.größe = 4 and größe = 4",
            "params.huge = 18446744073709551615 and params.huge > 18446744073709551614",
            "params.low = -9223372036854775808 and params.low < -9223372036854775807",
            "environment.python ~ '3.13' and environment.runsnap = '0.0.1'",
            "sharpe = 1.75 and fast = 10 and both = 1 and metrics.both = 2",
            "fast = 1 or fast = 2 or fast = 10",
            "fast = 10 or fast = 1 and fast = 2",
            "not (fast = 10 and fast = 1)",
            "not not fast and not not not missing",
            "((((fast))))",
            "params.text5 = '5'",
            "params.text5 != 5",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn conditions_that_do_not_hold() {
        for text in [
            "metrics.sharpe > 1.75",
            "metrics.sharpe = 0.1",
            "sweep = 'x'",
            "sweep != 'x'",
            "sweep exists",
            "host",
            "git_commit ~ ''",
            "params.missing < 1",
            "params.missing >= 1 or params.missing in (1, 2)",
            "params.nothing != 1",
            "params.nothing exists",
            "params.missing != null",
            "params.off",
            "params.off exists",
            "params.text5 = 5",
            "params.text5 > 1",
            "params.fast = '10'",
            "params.fast < 'a'",
            "params.fast ~ '1'",
            "params.on = 1",
            "params.empty = 'x' or params.empty != 'x'",
            "params.risk = 1",
            "(fast = 10 or fast = 1) and fast = 2",
            "bytes = 9007199254740992.0",
            "run = '000'",
            "name = 'base'",
            "environment.PYTHON exists",
            "Name exists",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn fields_are_all_known() {
        let mut run = run();
        run.start.sweep = Some("s".into());
        run.start.host = Some("h".into());
        run.start.git_commit = Some("c".into());
        for name in FIELDS {
            assert!(Key::parse(name).expect(name).value(&run).is_some(), "{name}");
        }
        run.exit_status = Some(None);
        assert_eq!(Key::parse("exit_status").expect("a key").value(&run), Some(Value::Null));
        run.exit_status = None;
        run.tags.clear();
        for name in ["exit_status", "tag", "tags"] {
            assert_eq!(Key::parse(name).expect(name).value(&run), None, "{name}");
        }
    }

    #[test]
    fn errors_name_the_place_and_what_belongs_there() {
        for (text, place, part) in [
            ("", 1, "expected a key"),
            ("  ", 3, "found the end"),
            ("name = base", 8, "text needs quotes: 'text'), found \"base\""),
            ("größe = base", 9, "text needs quotes"),
            ("name =", 7, "expected a value (a number, 'text', true, false or null), found the end"),
            ("fast > 1 slow < 2", 10, "or the end, found \"slow\""),
            ("fast 5", 6, "expected an operator"),
            ("(fast > 1", 10, "or ), found the end"),
            ("fast > 1)", 9, "found \")\""),
            ("1 < fast", 1, "expected a key"),
            ("and", 1, "expected a key"),
            ("fast > 1 and", 13, "expected a key"),
            ("name = 'x", 8, "no closing '"),
            ("name = 'x\\", 8, "no closing '"),
            ("params.`x", 1, "no closing `"),
            ("name = 'C:\\Users'", 8, "a backslash itself is \\\\"),
            ("fast & 1", 6, "unexpected \"&\""),
            ("fast ! 1", 6, "unexpected \"!\""),
            ("\u{1}", 1, "unexpected"),
            ("fast > 5x", 8, "\"5x\" is not a finite number"),
            ("fast > 1_000", 8, "not a finite number"),
            ("fast > 1e999", 8, "not a finite number"),
            ("fast > -inf", 8, "not a finite number"),
            ("fast > nan", 8, "text needs quotes"),
            ("fast > -", 8, "not a finite number"),
            ("fast < null", 8, "null compares with = and != only"),
            ("name ~ 5", 8, "~ looks for text in quotes"),
            ("fast in 5", 9, "expected a list of values"),
            ("fast in ()", 10, "expected a value"),
            ("fast in (1 2)", 12, "expected , or )"),
            ("fast in (1,", 12, "expected a value"),
            ("params > 1", 1, "params needs a name: params.NAME"),
            ("metrics. > 1", 1, "metrics needs a name"),
            ("metric.sharpe > 1", 1, "write metrics.NAME"),
            ("`` > 1", 1, "expected a name between the backticks"),
            ("foo.`x` > 1", 1, "backticks follow"),
        ] {
            let error = error(text);
            assert!(error.contains(&format!("at character {place}: ")) && error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{}fast{}", "(".repeat(depth), ")".repeat(depth));
        assert!(holds(&nested(MAX_DEPTH)));
        assert!(error(&nested(MAX_DEPTH + 1)).contains("at character 65: more than 64 nested parentheses"));
        assert!(error(&"(".repeat(1_000_000)).contains("nested"));
        // Neither of these nests.
        assert!(holds(&format!("{}fast", "not ".repeat(100_000))));
        assert!(holds(&format!("{}fast", "(fast) and ".repeat(100_000))));
    }

    #[test]
    fn sort_keys_may_descend() {
        let sharpe = Key { place: Place::Metrics, name: "sharpe".into() };
        assert_eq!(parse_sort("metrics.sharpe").expect("a key"), (sharpe.clone(), false));
        assert_eq!(parse_sort(" -metrics.sharpe ").expect("a key"), (sharpe, true));
        for bad in ["", "-", "--name", "a b", "name desc", "5", "'name'", "not", "params."] {
            let error = parse_sort(bad).expect_err(bad).to_string();
            assert!(error.starts_with("Not a key: at character "), "{error}");
        }
    }

    #[test]
    fn values_sort_by_type_then_value() {
        let ascending = [
            Some(json!(i64::MIN)),
            Some(json!(-1.5)),
            Some(json!(-1)),
            Some(json!(0)),
            Some(json!(9_007_199_254_740_992.0)),
            Some(json!(9_007_199_254_740_993_u64)),
            Some(json!(u64::MAX)),
            Some(json!(1e300)),
            Some(json!("")),
            Some(json!("10")),
            Some(json!("9")),
            Some(json!("é")),
            Some(json!(false)),
            Some(json!(true)),
            Some(json!([1])),
            Some(json!([1, 2])),
            Some(json!([2])),
            Some(json!({"a": 1})),
            Some(json!({"a": 1, "b": 0})),
            Some(json!({"a": 2})),
            Some(Value::Null),
            None,
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(Key::compare(a, b), i.cmp(&j), "{a:?} {b:?}");
                let missing = ascending.len() - 2;
                let descending = if i < missing && j < missing { j.cmp(&i) } else { i.cmp(&j) };
                assert_eq!(Key::compare_in_order(a, b, true), descending, "{a:?} {b:?}");
            }
        }
        assert_eq!(Key::compare(&Some(json!(0)), &Some(json!(-0.0))), Ordering::Equal);
    }

    fn with_metric(value: Value) -> Run {
        let mut run = run();
        run.metrics.insert("x".into(), value);
        run
    }

    fn check_operators<T: PartialOrd>(a: &T, b: &T, value: Value, literal: &str) {
        let run = with_metric(value);
        for (operator, expected) in
            [("=", a == b), ("==", a == b), ("!=", a != b), ("<", a < b), ("<=", a <= b), (">", a > b), (">=", a >= b)]
        {
            let text = format!("metrics.x {operator} {literal}");
            assert_eq!(Filter::parse(&text).expect("a filter").matches(&run), expected, "{text} {:?}", run.metrics);
        }
    }

    /// A float as it comes back from a journal.
    fn stored(float: f64) -> Value {
        serde_json::from_str(&json!(float).to_string()).expect("a number")
    }

    fn any_value() -> impl Strategy<Value = Option<Value>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-3.0..3.0).prop_map(Value::from),
            (0_u64..2048).prop_map(|n| Value::from((u64::MAX - n) as f64)),
            (0_u64..2048).prop_map(|n| Value::from(u64::MAX - n)),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        let tree = leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[ab]", inner), 0..3)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        });
        prop::option::of(tree)
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails(text in "\\PC*") {
            if let Ok(filter) = Filter::parse(&text) {
                filter.matches(&run());
            }
            let _ = parse_sort(&text);
        }

        #[test]
        fn any_tokens_parse_or_fail(parts in prop::collection::vec(prop::sample::select(vec![
            "and", "or", "not", "in", "exists", "(", ")", ",", "=", "!=", "<=", "~", "'", "\"", "`", "\\", "params.",
            "fast", "tag", "é", "5", "-", ".", "e", "1e9", "null", "true", " ", " ", " ", " ", "'x'", "name", "\0",
            "\n",
        ]), 0..20)) {
            let text = parts.concat();
            match Filter::parse(&text) {
                Ok(filter) => { filter.matches(&run()); }
                Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control), "{error}"),
            }
        }

        #[test]
        fn integers_compare_as_in_rust(a: i64, b: i64) {
            for (a, b) in [(a, b), (a, a), (a, a.wrapping_add(1))] {
                check_operators(&a, &b, a.into(), &b.to_string());
            }
        }

        #[test]
        fn unsigned_integers_compare_as_in_rust(a: u64, b: u64) {
            for (a, b) in [(a, b), (a, a), (a, a.wrapping_sub(1))] {
                check_operators(&a, &b, a.into(), &b.to_string());
            }
        }

        #[test]
        fn floats_compare_as_in_rust(a in prop::num::f64::NORMAL | prop::num::f64::ZERO, b in prop::num::f64::NORMAL) {
            for (a, b) in [(a, b), (b, a), (a, a)] {
                check_operators(&a, &b, stored(a), &json!(b).to_string());
            }
        }

        #[test]
        fn strings_compare_as_in_rust(a in "[a-c'\\\\\"é]{0,3}", b in "[a-c'\\\\\"é]{0,3}") {
            let literal = format!("'{}'", b.replace('\\', "\\\\").replace('\'', "\\'"));
            check_operators(&a, &b, a.clone().into(), &literal);
        }

        #[test]
        fn the_order_is_total(a in any_value(), b in any_value(), c in any_value(), descending: bool) {
            let compare = |a, b| Key::compare_in_order(a, b, descending);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
