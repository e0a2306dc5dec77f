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
    /// The field, model or place that may have been meant.
    pub nearest: Option<&'static str>,
}

impl LanguageError {
    pub(crate) fn new(position: usize, reason: impl Into<String>) -> Self {
        Self { position, reason: reason.into(), nearest: None }
    }
}

/// A name that nothing has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoName {
    /// That, in a sentence.
    pub reason: String,
    /// The name that may have been meant.
    pub nearest: Option<&'static str>,
}

/// What the names in a text stand for.
pub trait Lexicon {
    /// The names of all models that a name stands for.
    ///
    /// # Errors
    /// If no model has it.
    fn models(&self, name: &str) -> Result<Vec<String>, NoName>;

    /// Whether there is a place of this name in lower case, such as `de` or `de-fra`.
    ///
    /// # Errors
    /// If there is none.
    fn place(&self, name: &str) -> Result<(), NoName>;
}

/// Adds the conditions of `text` to a query, but those on whether an offer can be booked. Returns what these come to: true for
/// what can be booked alone, false for everything beside it, `None` if the text says nothing of it.
///
/// # Errors
/// The first thing that is not understood; the query is then of no use.
pub fn parse(
    text: &str,
    query: &mut Query,
    lexicon: &impl Lexicon,
) -> Result<Option<bool>, LanguageError> {
    if text.len() > MAX_LENGTH {
        let reason = format!("the text is longer than {MAX_LENGTH} bytes");
        return Err(LanguageError::new(MAX_LENGTH.saturating_add(1), reason));
    }
    let mut reading = Reading { query, lexicon, rentable: None };
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
        reading.add(&known, op, &values)?;
    }
    Ok(reading.rentable)
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

/// A query in the making.
struct Reading<'a, L> {
    query: &'a mut Query,
    lexicon: &'a L,
    /// What was said of whether an offer can be booked.
    rentable: Option<bool>,
}

impl<L: Lexicon> Reading<'_, L> {
    fn add(&mut self, known: &Known, op: Op, values: &[Value]) -> Result<(), LanguageError> {
        if values.len() > MAX_VALUES {
            let reason = format!("a list has at most {MAX_VALUES} values");
            return Err(LanguageError::new(first_position(values), reason));
        }
        if let ([value], Op::Equal) = (values, op)
            && value.text.eq_ignore_ascii_case("any")
        {
            return Ok(());
        }
        match known.kind {
            Kind::Number { field, scale, shift } => {
                let set = number_set(op, values, |value| scaled(value, scale, shift))?;
                self.query.tests.push(Test { field, set });
            }
            Kind::Choice { field, names } => {
                let set = choice_set(op, values, |value| field::choice(value, names))?;
                self.query.tests.push(Test { field, set });
            }
            Kind::Flag { field } => {
                let set = choice_set(op, values, field::flag)?;
                self.query.tests.push(Test { field, set });
            }
            Kind::Rentable => {
                let set = choice_set(op, values, field::flag)?;
                // what is not rentable now cannot be asked for alone: `rentable=false` shows it beside the rest
                let alone = match (set.holds(1), set.holds(0)) {
                    (true, false) => true,
                    (_, true) => false,
                    (false, false) => {
                        let reason = "an offer can be rented or not: this is neither";
                        return Err(LanguageError::new(first_position(values), reason));
                    }
                };
                // all conditions hold, in whatever order they stand
                self.rentable = Some(alone || self.rentable == Some(true));
            }
            Kind::Model => {
                let not = negated(op, values)?;
                let mut names = Vec::with_capacity(values.len());
                for value in values {
                    let called = self.lexicon.models(&value.text);
                    names.extend(called.map_err(|why| nameless(value, why))?);
                }
                self.query.models.push(Names { names, not });
            }
            Kind::Region => {
                let not = negated(op, values)?;
                let mut names = Vec::with_capacity(values.len());
                for value in values {
                    let name = value.text.to_ascii_lowercase();
                    self.lexicon.place(&name).map_err(|why| nameless(value, why))?;
                    names.push(name);
                }
                self.query.places.push(Names { names, not });
            }
            Kind::Provider | Kind::Machine | Kind::Offer => self.ids(known.kind, op, values)?,
        }
        Ok(())
    }

    fn ids(&mut self, kind: Kind, op: Op, values: &[Value]) -> Result<(), LanguageError> {
        if negated(op, values)? {
            let reason = "an id can be asked for, not excluded";
            return Err(LanguageError::new(first_position(values), reason));
        }
        let ids = values.iter().map(|value| field::id(kind, value));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let wanted = if kind == Kind::Provider {
            &mut self.query.providers
        } else if kind == Kind::Machine {
            &mut self.query.machines
        } else {
            &mut self.query.offers
        };
        if !wanted.is_empty() {
            let reason = "ids are asked for twice; write one list";
            return Err(LanguageError::new(first_position(values), reason));
        }
        *wanted = ids;
        Ok(())
    }
}

/// A refusal of a name that nothing has.
fn nameless(value: &Value, why: NoName) -> LanguageError {
    LanguageError { nearest: why.nearest, ..LanguageError::new(value.position, why.reason) }
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
