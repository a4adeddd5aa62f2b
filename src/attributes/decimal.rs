//! Exact decimal arithmetic on the text of JSON numbers.
//!
//! Averages are compared with bounds exactly, so values become whole billionths before they are added: sums of integers
//! do not depend on the order of the rows. Nearly all values have at most nine digits before and 18 after the point
//! and take the fast path; all others are computed digit by digit.

/// Billionths in 1.
pub(super) const BILLIONTHS: u64 = 1_000_000_000;

/// Values of this size and above are ignored.
pub(super) const LIMIT: u64 = 1_000_000_000;

/// Decimals of a billionth.
const PLACES: usize = 9;

/// A factor of `numerator / denominator` for values that cover another period than a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) numerator: u64,
    pub(super) denominator: u64,
}

impl Scale {
    pub(super) const ONE: Self = Self { numerator: 1, denominator: 1 };
}

/// The sum of those `parts` that are from 0 to below 1e9, times `scale`, truncated to whole billionths.
///
/// Each part is the text of a valid JSON number (RFC 8259, section 6). `None` if no part counts, or if their sum is 1e9
/// or more.
pub(super) fn sum_in_billionths<T: AsRef<[u8]>>(parts: impl Iterator<Item = T> + Clone, scale: Scale) -> Option<u64> {
    let mut sum: Option<ShortDecimal> = None;
    for part in parts.clone() {
        match ShortDecimal::parse(part.as_ref()) {
            Some(value) => sum = Some(sum.map_or(value, |sum| sum.plus(value))),
            None => return long_sum(parts, scale),
        }
    }
    sum.filter(|sum| sum.billionths < LIMIT * BILLIONTHS).map(|sum| sum.scaled(scale))
}

/// A number from 0 to below 1e9 with at most 18 decimals.
#[derive(Debug, Clone, Copy)]
struct ShortDecimal {
    /// The number, truncated to nine decimals.
    billionths: u64,
    /// The other nine decimals.
    rest: u64,
}

impl ShortDecimal {
    /// Reads a valid JSON number; `None` if it has a sign, an exponent, or more than nine digits before or 18 after the
    /// point.
    fn parse(text: &[u8]) -> Option<Self> {
        let point = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
        let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
        if whole.len() > PLACES || fraction.len() > 2 * PLACES {
            return None;
        }
        let (fraction, rest) = fraction.split_at(fraction.len().min(PLACES));
        Some(Self { billionths: digits(whole)? * BILLIONTHS + decimals(fraction)?, rest: decimals(rest)? })
    }

    fn plus(self, other: Self) -> Self {
        let rest = self.rest + other.rest;
        Self { billionths: self.billionths + other.billionths + rest / BILLIONTHS, rest: rest % BILLIONTHS }
    }

    /// The number times `scale`, truncated to billionths.
    fn scaled(self, scale: Scale) -> u64 {
        if scale == Scale::ONE {
            return self.billionths;
        }
        let exact = u128::from(self.billionths) * u128::from(BILLIONTHS) + u128::from(self.rest);
        let scaled = exact * u128::from(scale.numerator) / (u128::from(scale.denominator) * u128::from(BILLIONTHS));
        u64::try_from(scaled).expect("a value below 1e9 stays below 1e9 when it is scaled to a week")
    }
}

/// 1, 10, 100, … 1e9.
const POWERS_OF_TEN: [u64; PLACES + 1] = {
    let mut powers = [1; PLACES + 1];
    let mut exponent = 1;
    while exponent <= PLACES {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// The value of at most nine digits; `None` if a byte is not a digit.
fn digits(text: &[u8]) -> Option<u64> {
    let mut number = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

/// The value of at most nine digits after the point, in billionths.
fn decimals(text: &[u8]) -> Option<u64> {
    let number = match text.split_first_chunk() {
        Some((first, last)) => eight_digits(*first)? * POWERS_OF_TEN[last.len()] + digits(last)?,
        None => digits(text)?,
    };
    Some(number * POWERS_OF_TEN[PLACES - text.len()])
}

/// The same as [`digits`], without a loop: a loop over the digits would take longer than all other work on a value.
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let each = |byte| u64::from_ne_bytes([byte; 8]);
    let text = u64::from_le_bytes(text);
    let digits = text.wrapping_sub(each(b'0'));
    if (digits | text.wrapping_add(each(0x7F - b'9'))) & each(0x80) != 0 {
        return None;
    }
    // The first digit is in the lowest byte. Each step joins neighbours: eight digits to four pairs, then to two fours.
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours.wrapping_mul(10_000) + (fours >> 32)) & 0xFFFF_FFFF)
}

fn long_sum<T: AsRef<[u8]>>(parts: impl Iterator<Item = T>, scale: Scale) -> Option<u64> {
    let parts: Vec<Decimal> = parts.map(|part| Decimal::parse(part.as_ref())).filter(Decimal::counts).collect();
    if parts.is_empty() {
        return None;
    }
    let sum = FixedPoint::sum(&parts);
    (sum.whole < LIMIT).then(|| sum.in_billionths(scale))
}

/// The digits of a number: their value is `digits` x 10^-`places`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    is_negative: bool,
    /// Without leading zeros; empty for zero.
    digits: Vec<u8>,
    places: i64,
}

impl Decimal {
    /// Reads a valid JSON number.
    pub(super) fn parse(text: &[u8]) -> Self {
        let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let (mantissa, exponent) = text.split_at(exponent_at);
        let behind_point = mantissa.iter().rev().position(|&byte| byte == b'.').unwrap_or(0);
        let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
        let digits: Vec<u8> = digits.skip_while(|&digit| digit == 0).collect();
        // An exponent that does not fit into 64 bits saturates: the result is the same.
        let exponent = exponent.get(1..).map_or(0, saturating_integer);
        Self { is_negative, digits, places: (behind_point as i64).saturating_sub(exponent) }
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// How many digits stand before the point; negative if zeros follow the point.
    fn digits_before_point(&self) -> i64 {
        (self.digits.len() as i64).saturating_sub(self.places)
    }

    /// Whether the number is from 0 to below 1e9.
    fn counts(&self) -> bool {
        self.is_zero() || (!self.is_negative && self.digits_before_point() <= PLACES as i64)
    }

    /// The number in millionths, if it is positive, below 1e9 and has at most six decimals by value: `1e-7` has seven.
    pub(super) fn in_millionths(&self) -> Option<u64> {
        if self.is_zero() || !self.counts() {
            return None;
        }
        let significant = self.digits.len() - self.digits.iter().rev().take_while(|&&digit| digit == 0).count();
        let places = self.places - (self.digits.len() - significant) as i64;
        let zeros = u32::try_from(6 - places).ok()?;
        let digits = self.digits[..significant].iter();
        let value = digits.fold(0_u64, |number, &digit| number * 10 + u64::from(digit));
        Some(value * 10_u64.pow(zeros))
    }
}

fn saturating_integer(text: &[u8]) -> i64 {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    let magnitude =
        digits.iter().fold(0_i64, |number, byte| number.saturating_mul(10).saturating_add(i64::from(byte - b'0')));
    sign * magnitude
}

/// A number below 1e10 with all of its decimals.
struct FixedPoint {
    whole: u64,
    fraction: Vec<u8>,
}

impl FixedPoint {
    /// The sum of numbers that each are from 0 to below 1e9.
    fn sum(parts: &[Decimal]) -> Self {
        // A part whose first digit is this far after the point cannot change the result: every other part has fewer
        // decimals, so the distance from that part to the next whole billionth is larger.
        let negligible = parts.iter().map(|part| part.digits.len() as i64).max().unwrap_or(0) + 16;
        let mut sum = Self { whole: 0, fraction: Vec::new() };
        for part in parts.iter().filter(|part| !part.is_zero() && part.digits_before_point() > -negligible) {
            sum.add(part);
        }
        sum
    }

    fn add(&mut self, part: &Decimal) {
        let before_point = part.digits_before_point();
        let whole_digits = usize::try_from(before_point).unwrap_or(0);
        let digit = |at: usize| u64::from(part.digits.get(at).copied().unwrap_or(0));
        let whole = (0..whole_digits).fold(0, |number, at| number * 10 + digit(at));
        let leading_zeros = usize::try_from(-before_point).unwrap_or(0);
        let fraction = part.digits.get(whole_digits..).unwrap_or_default();
        let places = leading_zeros + fraction.len();
        if self.fraction.len() < places {
            self.fraction.resize(places, 0);
        }
        let mut carry = 0;
        for at in (0..places).rev() {
            let added = at.checked_sub(leading_zeros).map_or(0, |at| fraction[at]);
            let digit = self.fraction[at] + added + carry;
            (self.fraction[at], carry) = (digit % 10, digit / 10);
        }
        self.whole += whole + u64::from(carry);
    }

    /// The number times `scale` in whole billionths, truncated.
    fn in_billionths(&self, scale: Scale) -> u64 {
        let mut carry = 0;
        let mut fraction = self.fraction.clone();
        for digit in fraction.iter_mut().rev() {
            let product = u64::from(*digit) * scale.numerator + carry;
            (*digit, carry) = ((product % 10) as u8, product / 10);
        }
        let whole = self.whole * scale.numerator + carry;
        // Long division: digits after the last place cannot change the truncated quotient.
        let (mut quotient, mut remainder) = (whole / scale.denominator, whole % scale.denominator);
        for place in 0..PLACES {
            let dividend = remainder * 10 + u64::from(fraction.get(place).copied().unwrap_or(0));
            quotient = quotient * 10 + dividend / scale.denominator;
            remainder = dividend % scale.denominator;
        }
        quotient
    }
}

/// `millionths` as the shortest decimal: `15`, `0.25`.
pub(super) fn millionths_text(millionths: u64) -> String {
    let (whole, fraction) = (millionths / 1_000_000, millionths % 1_000_000);
    let text = format!("{whole}.{fraction:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn eight_digits_are_read_as_one_by_one(
            mut text in any::<[u8; 8]>(),
            digits_at in any::<[bool; 8]>(),
        ) {
            for (byte, is_digit) in text.iter_mut().zip(digits_at) {
                // Digits, their neighbours, and any other byte.
                *byte = if is_digit { b'.' + *byte % 13 } else { *byte };
            }
            prop_assert_eq!(eight_digits(text), digits(&text));
            let text = text.map(|byte| b'0' + byte % 10);
            prop_assert_eq!(eight_digits(text), digits(&text));
        }
    }

    fn value(parts: &[&str], scale: Scale) -> Option<u64> {
        sum_in_billionths(parts.iter().map(|part| part.as_bytes()), scale)
    }

    #[test]
    fn values_are_truncated_to_billionths() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("3", Some(3_000_000_000)),
            ("2.9999999999999999999999", Some(2_999_999_999)),
            ("8e0", Some(8_000_000_000)),
            ("12.5E-1", Some(1_250_000_000)),
            ("0.0000000009", Some(0)),
            ("1e-999999999999999999999", Some(0)),
            ("0e999999999999999999999", Some(0)),
            ("999999999.999999999", Some(999_999_999_999_999_999)),
            ("1000000000", None),
            ("1e9", None),
            ("1e999999999999999999999", None),
            ("-1", None),
            ("-0.0000001", None),
        ] {
            assert_eq!(value(&[text], Scale::ONE), expected, "{text}");
        }
        assert_eq!(value(&[], Scale::ONE), None);
    }

    #[test]
    fn a_sum_is_truncated_after_it_is_added() {
        assert_eq!(value(&["0.0000000005", "0.0000000005"], Scale::ONE), Some(1));
        assert_eq!(value(&["600000000", "400000000"], Scale::ONE), None);
        assert_eq!(value(&["4", "-1"], Scale::ONE), Some(4_000_000_000));
        // 31 days of 31 hours are seven hours a week.
        assert_eq!(value(&["31"], Scale { numerator: 7, denominator: 31 }), Some(7_000_000_000));
        assert_eq!(value(&["0.00000000014285714285714285714"], Scale { numerator: 7, denominator: 1 }), Some(0));
        assert_eq!(value(&["0.0000000001428571428571428571429"], Scale { numerator: 7, denominator: 1 }), Some(1));
    }

    #[test]
    fn bounds_have_at_most_six_decimals_by_value() {
        let millionths = |text: &str| Decimal::parse(text.as_bytes()).in_millionths();
        assert_eq!(millionths("20.123456"), Some(20_123_456));
        assert_eq!(millionths("20.1234560000000"), Some(20_123_456));
        assert_eq!(millionths("1e-6"), Some(1));
        assert_eq!(millionths("15e1"), Some(150_000_000));
        assert_eq!(millionths("999999999.999999"), Some(999_999_999_999_999));
        for refused in ["0", "-3", "1e-7", "0.1234567", "1e9", "0.1000000000000000000000000000000001"] {
            assert_eq!(millionths(refused), None, "{refused}");
        }
        assert_eq!(millionths_text(20_123_456), "20.123456");
        assert_eq!(millionths_text(15_000_000), "15");
        assert_eq!(millionths_text(250_000), "0.25");
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_digit_by_digit(
            wholes in prop::collection::vec(0_u64..1_000_000_000, 1..3),
            fraction in "[0-9]{1,20}",
            denominator in 28_u64..32,
        ) {
            let scale = Scale { numerator: 7, denominator };
            let texts: Vec<String> = wholes.iter().map(|whole| format!("{whole}.{fraction}")).collect();
            let parts = || texts.iter().map(|text| text.as_bytes());
            prop_assert_eq!(sum_in_billionths(parts(), scale), long_sum(parts(), scale));
        }
    }
}
