//! Lists of integers as bytes: differences to a base or to the value before, in planes of one byte of each.

use crate::decode::{DecodeResult, Decoder};

/// Every value is a difference to the base.
const FROM_BASE: u8 = 0;
/// The first value is the base, every further one a difference to the one before, zigzag.
const FROM_PREVIOUS: u8 = 1;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn bits(value: u64) -> u64 {
    u64::from(64 - value.leading_zeros())
}

/// The bytes that the largest of some values needs.
fn width(values: &[u64]) -> usize {
    values
        .iter()
        .fold(0, |all, value| all | value)
        .to_le_bytes()
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |n| n + 1)
}

/// Appends the lowest bytes of all values, then the next ones, and so on.
fn push_planes(out: &mut Vec<u8>, values: &[u64], width: usize) {
    for plane in 0..width {
        out.extend(values.iter().map(|value| (value >> (8 * plane)) as u8));
    }
}

fn take_planes(decoder: &mut Decoder<'_>, count: usize, width: usize) -> DecodeResult<Vec<u64>> {
    // Asked for first, so that nothing is allocated for bytes that are not there.
    let bytes = decoder.take(count.checked_mul(width).ok_or("too many numbers")?)?;
    let mut values = vec![0u64; count];
    for (plane, bytes) in bytes.chunks_exact(count.max(1)).enumerate() {
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value |= u64::from(*byte) << (8 * plane);
        }
    }
    Ok(values)
}

/// Appends integers in the form that has fewer bits.
pub fn push_integers(out: &mut Vec<u8>, values: &[i64]) {
    let lowest = values.iter().min().copied().unwrap_or(0);
    let from_base: Vec<u64> = values.iter().map(|value| value.wrapping_sub(lowest).cast_unsigned()).collect();
    let steps = values.windows(2).map(|pair| match pair {
        [a, b] => zigzag(b.wrapping_sub(*a)),
        _ => 0,
    });
    let from_previous: Vec<u64> = std::iter::once(0).chain(steps).take(values.len()).collect();
    let sum = |values: &[u64]| values.iter().map(|value| bits(*value)).sum::<u64>();
    let (mode, base, numbers) = if sum(&from_previous) < sum(&from_base) {
        (FROM_PREVIOUS, values.first().copied().unwrap_or(0), from_previous)
    } else {
        (FROM_BASE, lowest, from_base)
    };
    let width = width(&numbers);
    out.extend([mode, width as u8]);
    out.extend(base.to_le_bytes());
    push_planes(out, &numbers, width);
}

/// Reads `count` integers.
pub fn take_integers(decoder: &mut Decoder<'_>, count: usize) -> DecodeResult<Vec<i64>> {
    let (mode, width) = (decoder.u8()?, usize::from(decoder.u8()?));
    let base = i64::from_le_bytes(decoder.array()?);
    if mode > FROM_PREVIOUS || width > 8 {
        return Err("numbers of an unknown form".into());
    }
    let numbers = take_planes(decoder, count, width)?;
    Ok(if mode == FROM_BASE {
        numbers.into_iter().map(|number| base.wrapping_add(number.cast_signed())).collect()
    } else {
        let mut at = base;
        let next = |number| {
            at = at.wrapping_add(unzigzag(number));
            at
        };
        numbers.into_iter().map(next).collect()
    })
}

/// All bits of each number, in planes.
const BITS: u8 = 0;
/// Integers that give the numbers when divided by a power of ten.
const DECIMAL: u8 = 1;
/// The powers of ten that doubles hold exactly, as far as decimals go.
const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// Above this not every integer is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The integers that give all values when divided by one power of ten.
fn decimals(values: &[f64]) -> Option<(usize, Vec<i64>)> {
    let scaled = |value: f64, power: f64| {
        let number = (value * power).round();
        let fits = number.abs() < EXACT && (number as i64 as f64 / power).to_bits() == value.to_bits();
        fits.then_some(number as i64)
    };
    let mut exponent = 0;
    for value in values {
        // What fits a lower power fits this one as well, or the second look below fails.
        while scaled(*value, *POWERS.get(exponent)?).is_none() {
            exponent += 1;
        }
    }
    let power = *POWERS.get(exponent)?;
    let numbers: Option<Vec<i64>> = values.iter().map(|value| scaled(*value, power)).collect();
    Some((exponent, numbers?))
}

/// Appends doubles, exact to the last bit.
pub fn push_doubles(out: &mut Vec<u8>, values: &[f64]) {
    match decimals(values) {
        Some((exponent, numbers)) => {
            out.extend([DECIMAL, exponent as u8]);
            push_integers(out, &numbers);
        }
        None => {
            out.push(BITS);
            push_planes(out, &values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), 8);
        }
    }
}

/// Reads `count` doubles.
pub fn take_doubles(decoder: &mut Decoder<'_>, count: usize) -> DecodeResult<Vec<f64>> {
    let values: Vec<f64> = match decoder.u8()? {
        BITS => take_planes(decoder, count, 8)?.into_iter().map(f64::from_bits).collect(),
        DECIMAL => {
            let power = *POWERS.get(usize::from(decoder.u8()?)).ok_or("a power of ten over the limit")?;
            take_integers(decoder, count)?.into_iter().map(|number| number as f64 / power).collect()
        }
        _ => return Err("doubles of an unknown form".into()),
    };
    // JSON has no others, and nobody who sorts expects them.
    if values.iter().any(|value| !value.is_finite()) { Err("a number that is not finite".into()) } else { Ok(values) }
}

/// Appends one bit a row, the first of a byte being its lowest.
pub fn push_bits(out: &mut Vec<u8>, bits: &[bool]) {
    out.extend(bits.chunks(8).map(|chunk| chunk.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))));
}

/// Reads `count` bits; those left over in the last byte must be zero.
pub fn take_bits(decoder: &mut Decoder<'_>, count: usize) -> DecodeResult<Vec<bool>> {
    let bytes = decoder.take(count.div_ceil(8))?;
    let mut bits: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).map(move |n| byte >> n & 1 == 1)).collect();
    if bits.iter().skip(count).any(|bit| *bit) {
        return Err("bits beyond the last row".into());
    }
    bits.truncate(count);
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_integers(values: &[i64]) {
        let mut out = Vec::new();
        push_integers(&mut out, values);
        let mut decoder = Decoder::new(&out);
        assert_eq!(take_integers(&mut decoder, values.len()).as_deref(), Ok(values));
        assert!(decoder.is_empty());
    }

    fn check_doubles(values: &[f64]) -> usize {
        let mut out = Vec::new();
        push_doubles(&mut out, values);
        let mut decoder = Decoder::new(&out);
        let back = take_doubles(&mut decoder, values.len()).expect("decodes");
        assert!(back.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())), "{values:?} {back:?}");
        assert!(decoder.is_empty());
        out.len()
    }

    #[test]
    fn odd_numbers_come_back() {
        check_integers(&[]);
        check_integers(&[i64::MIN, i64::MAX, 0, -1, i64::MIN]);
        check_integers(&[7; 9]);
        check_doubles(&[]);
        check_doubles(&[0.0, -0.0, 1.0, f64::MIN_POSITIVE, f64::MAX, -5e-324]);
        assert!(check_doubles(&[0.25, -1.5, 3.0, 0.1]) < 25);
        check_doubles(&[0.1 + 0.2, 1e15 + 0.5, 9_007_199_254_740_993.0]);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let mut out = vec![BITS];
        push_planes(&mut out, &[f64::NAN.to_bits()], 8);
        assert!(take_doubles(&mut Decoder::new(&out), 1).is_err());
    }

    proptest! {
        #[test]
        fn integers_round_trip(values in proptest::collection::vec(prop_oneof![any::<i64>(), -5i64..5], 0..40)) {
            check_integers(&values);
        }

        #[test]
        fn doubles_round_trip(values in proptest::collection::vec(
            prop_oneof![prop::num::f64::NORMAL, (-4000i64..4000).prop_map(|n| n as f64 / 100.0)], 0..20)) {
            check_doubles(&values);
        }

        #[test]
        fn bits_round_trip(values in proptest::collection::vec(any::<bool>(), 0..40)) {
            let mut out = Vec::new();
            push_bits(&mut out, &values);
            prop_assert_eq!(take_bits(&mut Decoder::new(&out), values.len()), Ok(values));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0usize..100) {
            let _ = take_integers(&mut Decoder::new(&bytes), count);
            let _ = take_doubles(&mut Decoder::new(&bytes), count);
            let _ = take_bits(&mut Decoder::new(&bytes), count);
        }
    }
}
