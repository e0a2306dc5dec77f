//! The search language: `gpu_name=RTX_4090 num_gpus>=2 dph<0.5 reliability>0.98 geolocation in [DE,SE]`.
//!
//! Conditions are `field op value`, divided by spaces; all must hold. Fields have the names of `GET /v1/offers` and
//! those that Vast.ai's language has for the same facts. Operators: `=` or `==`, `!=`, `<`, `<=`, `>`, `>=`,
//! `in [a,b]` and `notin [a,b]` or `not in [a,b]`. Where a word has spaces, write `_` or put it in quotes, double or single. `any` as the value of `=`
//! leaves the condition out, as Vast.ai's does.

mod field;
mod words;

use thiserror::Error;

use crate::query::{MAX_VALUES, Names, Query, Set, Test};
use field::{Kind, Known};
use words::{Op, Reader};

/// The longest text that is read, in bytes.
pub const MAX_LENGTH: usize = 2_048;
/// The most conditions of one text.
pub const MAX_CONDITIONS: usize = 32;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at character {position}: {reason}")]
pub struct LanguageError {
    /// Counted in characters from 1.
    pub position: usize,
    /// What is wrong there, in a sentence.
    pub reason: String,
    /// The field or model that may have been meant.
    pub nearest: Option<&'static str>,
}

impl LanguageError {
    pub(crate) fn new(position: usize, reason: impl Into<String>) -> Self {
        Self { position, reason: reason.into(), nearest: None }
    }
}

/// A name that no model has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoModel {
    /// That, in a sentence.
    pub reason: String,
    /// The model that may have been meant.
    pub nearest: Option<&'static str>,
}

/// Adds the conditions of `text` to a query. `models` turns a name into those of all models that it stands for.
///
/// # Errors
/// The first thing that is not understood; the query is then of no use.
pub fn parse(
    text: &str,
    query: &mut Query,
    models: &impl Fn(&str) -> Result<Vec<String>, NoModel>,
) -> Result<(), LanguageError> {
    if text.len() > MAX_LENGTH {
        let reason = format!("the text is longer than {MAX_LENGTH} bytes");
        return Err(LanguageError::new(MAX_LENGTH.saturating_add(1), reason));
    }
    let mut reader = Reader::new(text);
    let mut conditions = 0_usize;
    while let Some(name) = reader.field()? {
        conditions = conditions.saturating_add(1);
        if conditions > MAX_CONDITIONS {
            let reason = format!("there are more than {MAX_CONDITIONS} conditions");
            return Err(LanguageError::new(name.position, reason));
        }
        let known = field::find(&name.text).ok_or_else(|| unknown(&name.text, name.position))?;
        let op = reader.op()?;
        let values = reader.values(op)?;
        add(query, &known, op, &values, models)?;
    }
    Ok(())
}

fn unknown(name: &str, position: usize) -> LanguageError {
    let short: String = name.chars().take(64).collect();
    let nearest = field::nearest(&short);
    let hint = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    LanguageError {
        nearest,
        ..LanguageError::new(position, format!("there is no field {short:?}{hint}"))
    }
}

/// A value as it was written.
#[derive(Debug)]
struct Value {
    text: String,
    position: usize,
}

fn add(
    query: &mut Query,
    known: &Known,
    op: Op,
    values: &[Value],
    models: &impl Fn(&str) -> Result<Vec<String>, NoModel>,
) -> Result<(), LanguageError> {
    if values.len() > MAX_VALUES {
        let position = values.first().map_or(1, |value| value.position);
        return Err(LanguageError::new(
            position,
            format!("a list has at most {MAX_VALUES} values"),
        ));
    }
    if let ([value], Op::Equal) = (values, op)
        && value.text.eq_ignore_ascii_case("any")
    {
        return Ok(());
    }
    match known.kind {
        Kind::Number { field, scale, shift } => {
            let set = number_set(op, values, |value| scaled(value, scale, shift))?;
            query.tests.push(Test { field, set });
        }
        Kind::Choice { field, names } => {
            let set = choice_set(op, values, |value| field::choice(value, names))?;
            query.tests.push(Test { field, set });
        }
        Kind::Flag { field } => {
            let set = choice_set(op, values, field::flag)?;
            query.tests.push(Test { field, set });
        }
        Kind::Rentable => {
            let set = choice_set(op, values, field::flag)?;
            // what is not rentable now cannot be asked for alone: `rentable=false` shows everything
            query.available = set.holds(1) && !set.holds(0);
        }
        Kind::Model => {
            let not = negated(op, values)?;
            let mut names = Vec::with_capacity(values.len());
            for value in values {
                names.extend(models(&value.text).map_err(|unknown| LanguageError {
                    nearest: unknown.nearest,
                    ..LanguageError::new(value.position, unknown.reason)
                })?);
            }
            query.models.push(Names { names, not });
        }
        Kind::Region => {
            let names = values.iter().map(|value| value.text.to_ascii_lowercase()).collect();
            query.places.push(Names { names, not: negated(op, values)? });
        }
        Kind::Provider | Kind::Machine | Kind::Offer => {
            if negated(op, values)? {
                let position = values.first().map_or(1, |value| value.position);
                return Err(LanguageError::new(position, "an id can be asked for, not excluded"));
            }
            let ids = values.iter().map(|value| field::id(known.kind, value));
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            let wanted = if known.kind == Kind::Provider {
                &mut query.providers
            } else if known.kind == Kind::Machine {
                &mut query.machines
            } else {
                &mut query.offers
            };
            if !wanted.is_empty() {
                let position = values.first().map_or(1, |value| value.position);
                return Err(LanguageError::new(
                    position,
                    "ids are asked for twice; write one list",
                ));
            }
            *wanted = ids;
        }
    }
    Ok(())
}

fn first_position(values: &[Value]) -> usize {
    values.first().map_or(1, |value| value.position)
}

/// Whether names are excluded; they have no order.
fn negated(op: Op, values: &[Value]) -> Result<bool, LanguageError> {
    match op {
        Op::Equal | Op::In => Ok(false),
        Op::Unequal | Op::NotIn => Ok(true),
        Op::Less | Op::AtMost | Op::More | Op::AtLeast => Err(LanguageError::new(
            first_position(values),
            "this field is a name: use =, !=, in or notin",
        )),
    }
}

fn choice_set(
    op: Op,
    values: &[Value],
    read: impl Fn(&Value) -> Result<u64, LanguageError>,
) -> Result<Set, LanguageError> {
    let not = negated(op, values)?;
    let values = values.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(if not { Set::NoneOf(values) } else { Set::OneOf(values) })
}

/// A number in the field's unit: rounded down, and whether that was exact.
type Scaled = (u64, bool);

fn number_set(
    op: Op,
    values: &[Value],
    read: impl Fn(&Value) -> Result<Scaled, LanguageError>,
) -> Result<Set, LanguageError> {
    let read_all = values.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let exact: Vec<u64> =
        read_all.iter().filter(|(_, exact)| *exact).map(|(value, _)| *value).collect();
    let Some((value, is_exact)) = read_all.first().copied() else {
        return Err(LanguageError::new(first_position(values), "a value is missing"));
    };
    let above = value.saturating_add(1);
    let nothing = Set::Span(1, 0);
    Ok(match op {
        // a fraction that no offer can have is equal to none
        Op::Equal | Op::In => Set::OneOf(exact),
        Op::Unequal | Op::NotIn => Set::NoneOf(exact),
        Op::AtLeast => Set::at_least(if is_exact { value } else { above }),
        Op::More => Set::at_least(above),
        Op::AtMost => Set::at_most(value),
        Op::Less if !is_exact => Set::at_most(value),
        Op::Less => value.checked_sub(1).map_or(nothing, Set::at_most),
    })
}

/// Reads a decimal number and multiplies it by `scale` and then, if there is more than 10 to the `shift`, divides it.
fn scaled(value: &Value, scale: u64, shift: u32) -> Result<Scaled, LanguageError> {
    let refused = |reason: &str| {
        LanguageError::new(value.position, format!("{:?} {reason}", short(&value.text)))
    };
    let (whole, fraction) = value.text.split_once('.').unwrap_or((&value.text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(refused("is not a number such as 24 or 0.65"));
    }
    if whole.len() > 12 || fraction.len() > 9 {
        return Err(refused("has too many digits"));
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let places = u32::try_from(fraction.len()).unwrap_or(0);
    let ten = |power: u32| 10_u128.saturating_pow(power);
    let (Some(whole), Some(fraction)) = (number(whole), number(fraction)) else {
        return Err(refused("is not a number"));
    };
    let units =
        whole.saturating_mul(ten(places)).saturating_add(fraction).saturating_mul(scale.into());
    let divisor = ten(places.saturating_add(shift));
    let down = units.checked_div(divisor).unwrap_or(0);
    let exact = units.checked_rem(divisor) == Some(0);
    Ok((u64::try_from(down).unwrap_or(u64::MAX), exact))
}

fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests;
