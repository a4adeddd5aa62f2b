//! Formats numbers as real drops do.

use std::io::Write;

/// Appends a number below 1,000 as .NET formats a `float` for an exact round trip: nine significant digits without
/// trailing zeros, and `.0` after whole numbers.
pub(super) fn push_single(text: &mut Vec<u8>, number: f32) {
    if number == 0.0 {
        return text.extend_from_slice(b"0.0");
    }
    let number = f64::from(number);
    let decimals = decimals_of(number);
    let one = 10_u64.pow(decimals);
    let scaled = (number * one as f64).round() as u64;
    push_digits(text, scaled / one, 1);
    text.push(b'.');
    let point = text.len();
    push_digits(text, scaled % one, decimals);
    while text.len() > point + 1 && text.ends_with(b"0") {
        text.pop();
    }
}

/// Appends a number with the fewest digits that parse to the same number.
pub(super) fn push_double(text: &mut Vec<u8>, number: f64) {
    write!(text, "{number:?}").expect("writing to a Vec cannot fail");
}

/// The number of decimals that gives nine significant digits.
fn decimals_of(number: f64) -> u32 {
    let bounds = [100.0, 10.0, 1.0, 0.1, 0.01, 0.001];
    let above = bounds.iter().position(|bound| number >= *bound);
    6 + above.unwrap_or(bounds.len()) as u32
}

/// Appends `number` with at least `width` digits.
fn push_digits(text: &mut Vec<u8>, mut number: u64, width: u32) {
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    let wanted = digits.len() - width as usize;
    while number > 0 || begin > wanted {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text.extend_from_slice(&digits[begin..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_single(number: f32) -> String {
        let mut text = Vec::new();
        push_single(&mut text, number);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn numbers_have_nine_significant_digits() {
        for (number, text) in [
            (0.0, "0.0"),
            (7.0, "7.0"),
            (40.25, "40.25"),
            (8.916_667, "8.91666698"),
            (17.453_56, "17.4535599"),
            (168.1, "168.100006"),
            (0.273_583_35, "0.273583353"),
            (0.003_966_666, "0.00396666583"),
            (9.999_999_9, "10.0"),
        ] {
            assert_eq!(format_single(number), text);
        }
    }

    #[test]
    fn a_formatted_number_parses_to_the_same_number() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let number = (0.1 + rng.f32()) * 10_f32.powi(rng.i32(-3..3));
            assert_eq!(format_single(number).parse::<f32>().unwrap(), number);
        }
    }
}
