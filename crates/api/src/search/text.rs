//! Ids, money and times as JSON, written without allocating: a page has some thousand of them.

use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use uuid::Uuid;

/// An id with its prefix.
#[derive(Clone, Copy)]
pub(super) struct Id {
    pub(super) prefix: &'static str,
    pub(super) id: Uuid,
}

/// Up to 48 bytes of ASCII.
struct Short {
    bytes: [u8; 48],
    len: usize,
}

impl Short {
    const fn new() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len = self.len.saturating_add(1);
        }
    }

    fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.push(byte));
    }

    /// A number with at least so many digits.
    fn number(&mut self, value: u64, least: usize) {
        let (text, from) = digits_of(value, least);
        text.iter().skip(from).for_each(|byte| self.push(*byte));
    }

    fn as_str(&self) -> &str {
        self.bytes
            .get(..self.len)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

/// The digits of a number, at least so many of them, and where they begin.
fn digits_of(value: u64, least: usize) -> ([u8; 20], usize) {
    let mut text = [b'0'; 20];
    let (mut rest, mut from) = (value, text.len());
    let latest = text.len().saturating_sub(least.max(1));
    for place in text.iter_mut().rev() {
        if rest == 0 && from <= latest {
            break;
        }
        *place = digit(rest % 10);
        rest /= 10;
        from = from.saturating_sub(1);
    }
    (text, from)
}

/// Appends a number with at least so many digits.
pub(crate) fn digits(body: &mut Vec<u8>, value: u64, least: usize) {
    if value < 100 && least <= 1 {
        let both = [digit(value / 10), digit(value % 10)];
        return body.extend_from_slice(both.get(usize::from(value < 10)..).unwrap_or_default());
    }
    let (text, from) = digits_of(value, least);
    body.extend_from_slice(text.get(from..).unwrap_or_default());
}

/// Appends a number of units of which a power of ten make one, with so many digits behind the point.
pub(super) fn decimal(body: &mut Vec<u8>, value: u64, decimals: usize) {
    if decimals == 0 {
        return digits(body, value, 1);
    }
    let (text, from) = digits_of(value, decimals.saturating_add(1));
    let point = text.len().saturating_sub(decimals);
    body.extend_from_slice(text.get(from..point).unwrap_or_default());
    body.push(b'.');
    body.extend_from_slice(text.get(point..).unwrap_or_default());
}

fn digit(value: u64) -> u8 {
    u8::try_from(value).map_or(b'0', |value| value.saturating_add(b'0'))
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Short::new();
        text.text(self.prefix);
        text.push(b'_');
        let mut hex = [0; 32];
        text.text(self.id.simple().encode_lower(&mut hex));
        serializer.serialize_str(text.as_str())
    }
}

/// Micro-dollars as `{"amount":"0.650000","currency":"USD"}`.
#[derive(Clone, Copy)]
pub(super) struct Micros(pub(super) u64);

fn dollars(micros: u64) -> Short {
    let mut text = Short::new();
    text.number(micros / 1_000_000, 1);
    text.push(b'.');
    text.number(micros % 1_000_000, 6);
    text
}

impl Micros {
    /// Appends what serde would write.
    pub(super) fn write(self, body: &mut Vec<u8>) {
        body.extend_from_slice(br#"{"amount":""#);
        decimal(body, self.0, 6);
        body.extend_from_slice(br#"","currency":"USD"}"#);
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut money = serializer.serialize_struct("Usd", 2)?;
        money.serialize_field("amount", dollars(self.0).as_str())?;
        money.serialize_field("currency", "USD")?;
        money.end()
    }
}

/// Basis points as a share of one, such as `0.9912`.
#[derive(Clone, Copy)]
pub(super) struct Share(pub(super) u16);

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Short::new();
        text.number(u64::from(self.0) / 10_000, 1);
        text.push(b'.');
        text.number(u64::from(self.0) % 10_000, 4);
        serializer.serialize_str(text.as_str())
    }
}

/// A version with one digit behind the point, such as 124 as `12.4`.
#[derive(Clone, Copy)]
pub(super) struct Tenths(pub(super) u32);

impl Serialize for Tenths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Short::new();
        text.number(u64::from(self.0) / 10, 1);
        text.push(b'.');
        text.number(u64::from(self.0) % 10, 1);
        serializer.serialize_str(text.as_str())
    }
}

/// A second since 1970 by RFC 3339 in UTC.
#[derive(Clone, Copy)]
pub(super) struct Second(pub(super) u32);

impl Serialize for Second {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (days, second) = (u64::from(self.0) / 86_400, u64::from(self.0) % 86_400);
        let (year, month, day) = date(days);
        let mut text = Short::new();
        for (value, digits, then) in [
            (year, 4, b'-'),
            (month, 2, b'-'),
            (day, 2, b'T'),
            (second / 3_600, 2, b':'),
            (second / 60 % 60, 2, b':'),
            (second % 60, 2, b'Z'),
        ] {
            text.number(value, digits);
            text.push(then);
        }
        serializer.serialize_str(text.as_str())
    }
}

/// Year, month and day of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let leaps = (day_of_era / 1_460)
        .saturating_add(day_of_era / 146_096)
        .saturating_sub(day_of_era / 36_524);
    let year_of_era = day_of_era.saturating_sub(leaps) / 365;
    let before = (year_of_era.saturating_mul(365))
        .saturating_add(year_of_era / 4)
        .saturating_sub(year_of_era / 100);
    let day_of_year = day_of_era.saturating_sub(before);
    let shifted_month = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = day_of_year
        .saturating_sub(shifted_month.saturating_mul(153).saturating_add(2) / 5)
        .saturating_add(1);
    let (month, next) = if shifted_month < 10 {
        (shifted_month.saturating_add(3), 0)
    } else {
        (shifted_month.saturating_sub(9), 1)
    };
    let year = era.saturating_mul(400).saturating_add(year_of_era).saturating_add(next);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use domain::{id::OfferId, money::UsdMicros, time::UnixSeconds};

    use super::*;
    use crate::views::{Time, Usd};

    #[test]
    fn numbers_have_their_digits() {
        for value in [0, 1, 9, 10, 11, 99, 100, 1_234_567, u64::MAX] {
            for least in [0, 1, 2, 7] {
                let mut text = b"x".to_vec();
                digits(&mut text, value, least);
                assert_eq!(String::from_utf8(text).unwrap(), format!("x{value:0least$}"));
            }
        }
    }

    #[test]
    fn they_are_written_as_everywhere_else() {
        let json = |value: &dyn erased::Json| value.json();
        for second in
            (0..4_294_967_295_u32).step_by(1_234_567).chain([0, 951_782_400, 951_868_799, u32::MAX])
        {
            assert_eq!(json(&Second(second)), json(&Time(UnixSeconds(second.into()))), "{second}");
        }
        for micros in [0, 1, 650_000, 999_999, 1_000_000, 12_345_678_901_234, u64::MAX] {
            assert_eq!(json(&Micros(micros)), json(&Usd::from(UsdMicros::new(micros))));
        }
        let id = Uuid::from_u128(0x0198_f1c2_a4b3_7c1e_8d2f_6a5b_4c3d_2e1f);
        assert_eq!(json(&Id { prefix: "ofr", id }), json(&OfferId::from_uuid(id)));
        assert_eq!(json(&Share(9_912)), "\"0.9912\"");
        assert_eq!(json(&Share(10_000)), "\"1.0000\"");
        assert_eq!(json(&Tenths(124)), "\"12.4\"");
    }

    mod erased {
        pub(super) trait Json {
            fn json(&self) -> String;
        }

        impl<T: serde::Serialize> Json for T {
            fn json(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }
}
