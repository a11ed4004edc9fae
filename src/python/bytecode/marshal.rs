//! Python's `marshal` format, as far as code objects need it. The format is that of CPython's Python/marshal.c.

use crate::decode::{DecodeResult, Decoder};

/// Values nested deeper than this are refused.
const MAX_DEPTH: usize = 200;

/// Added to a type where others may refer to the value.
const REFERRED: u8 = 0x80;

/// A value; what no import needs is `Other`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(i32),
    Text(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Value>),
    Code(Box<Code>),
    Other,
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A code object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Code {
    pub(super) instructions: Vec<u8>,
    pub(super) constants: Vec<Value>,
    pub(super) names: Vec<String>,
    pub(super) file_name: Option<String>,
    pub(super) first_line: u32,
}

/// Which fields a code object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Until3_7,
    Until3_10,
    Since3_11,
}

pub(super) fn read(bytes: &[u8], layout: Layout) -> DecodeResult<Value> {
    // A value that is referred to is copied, and a copy may hold copies: together they may not be longer than this.
    let budget = bytes.len().saturating_mul(64);
    Reader { decoder: Decoder::new(bytes), layout, referred: Vec::new(), budget }.value(0)
}

struct Reader<'a> {
    decoder: Decoder<'a>,
    layout: Layout,
    referred: Vec<Value>,
    budget: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> DecodeResult<Value> {
        if depth > MAX_DEPTH {
            return Err("nested too deeply".into());
        }
        let byte = self.decoder.u8()?;
        // Its number is taken before what it holds is read.
        let place = (byte & REFERRED != 0).then(|| {
            self.referred.push(Value::Other);
            self.referred.len() - 1
        });
        let value = match byte & !REFERRED {
            b'N' | b'F' | b'T' | b'S' | b'.' | b'0' => Value::Other,
            b'i' => Value::Number(self.decoder.u32()?.cast_signed()),
            b'I' | b'g' => self.skip(8)?,
            b'y' => self.skip(16)?,
            b'l' => {
                let digits = self.decoder.u32()?.cast_signed().unsigned_abs() as usize;
                self.skip(digits.saturating_mul(2))?
            }
            b'f' => {
                let length = self.decoder.u8()?.into();
                self.skip(length)?
            }
            b'x' => {
                for _ in 0..2 {
                    let length = self.decoder.u8()?.into();
                    self.skip(length)?;
                }
                Value::Other
            }
            b's' => Value::Bytes(self.long_bytes()?.to_vec()),
            b'a' | b'A' | b'u' | b't' => Value::Text(String::from_utf8_lossy(self.long_bytes()?).into_owned()),
            b'z' | b'Z' => {
                let length = self.decoder.u8()?.into();
                Value::Text(String::from_utf8_lossy(self.decoder.take(length)?).into_owned())
            }
            b')' => {
                let count = self.decoder.u8()?.into();
                Value::Tuple(self.values(count, depth)?)
            }
            b'(' | b'[' | b'<' | b'>' => {
                let count = self.count()?;
                Value::Tuple(self.values(count, depth)?)
            }
            b'{' => {
                while self.decoder.rest().first() != Some(&b'0') {
                    self.value(depth + 1)?;
                    self.value(depth + 1)?;
                }
                self.skip(1)?
            }
            b':' => {
                self.values(3, depth)?;
                Value::Other
            }
            b'r' => {
                let number = self.decoder.u32()? as usize;
                let value = self.referred.get(number).cloned().ok_or("a reference to what is not there")?;
                self.pay(size_of(&value))?;
                value
            }
            b'c' => Value::Code(Box::new(self.code(depth)?)),
            other => return Err(format!("type {other} is unknown")),
        };
        if let Some(slot) = place.and_then(|place| self.referred.get_mut(place)) {
            let size = size_of(&value);
            *slot = value.clone();
            self.pay(size)?;
        }
        Ok(value)
    }

    fn pay(&mut self, bytes: usize) -> DecodeResult<()> {
        self.budget = self.budget.checked_sub(bytes).ok_or("it blows up")?;
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> DecodeResult<Value> {
        self.decoder.take(bytes).map(|_| Value::Other)
    }

    fn count(&mut self) -> DecodeResult<usize> {
        let count = self.decoder.u32()? as usize;
        if count > self.decoder.rest().len() { Err("more values than bytes".into()) } else { Ok(count) }
    }

    fn long_bytes(&mut self) -> DecodeResult<&[u8]> {
        let length = self.decoder.u32()? as usize;
        self.decoder.take(length)
    }

    fn values(&mut self, count: usize, depth: usize) -> DecodeResult<Vec<Value>> {
        (0..count).map(|_| self.value(depth + 1)).collect()
    }

    fn code(&mut self, depth: usize) -> DecodeResult<Code> {
        // Numbers of arguments and the like.
        let numbers = match self.layout {
            Layout::Until3_7 | Layout::Since3_11 => 5,
            Layout::Until3_10 => 6,
        };
        self.skip(4 * numbers)?;
        let instructions = match self.value(depth + 1)? {
            Value::Bytes(bytes) => bytes,
            _ => return Err("code without instructions".into()),
        };
        let constants = match self.value(depth + 1)? {
            Value::Tuple(values) => values,
            _ => return Err("code without constants".into()),
        };
        let names = match self.value(depth + 1)? {
            Value::Tuple(names) => names.iter().map(|name| name.text().unwrap_or_default().to_owned()).collect(),
            _ => return Err("code without names".into()),
        };
        // Names of variables, in two lists or three.
        let lists = if self.layout == Layout::Since3_11 { 2 } else { 3 };
        self.values(lists, depth)?;
        let file_name = self.value(depth + 1)?.text().map(str::to_owned);
        // The function's name, in later versions the qualified one too.
        self.values(if self.layout == Layout::Since3_11 { 2 } else { 1 }, depth)?;
        let first_line = self.decoder.u32()?;
        // Tables of lines and of exceptions.
        self.values(if self.layout == Layout::Since3_11 { 2 } else { 1 }, depth)?;
        Ok(Code { instructions, constants, names, file_name, first_line })
    }
}

/// About how many bytes a copy takes.
fn size_of(value: &Value) -> usize {
    let own = 8;
    own + match value {
        Value::Number(_) | Value::Other => 0,
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Tuple(values) => values.iter().map(size_of).sum(),
        Value::Code(code) => {
            code.instructions.len()
                + code.constants.iter().map(size_of).sum::<usize>()
                + code.names.iter().map(String::len).sum::<usize>()
        }
    }
}
