//! From characters to fields, operators and values, each with its place.

use super::{LanguageError, Value};

/// How a field and its value are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
    In,
    NotIn,
}

/// Reads a text from left to right.
pub(super) struct Reader<'t> {
    rest: &'t str,
    position: usize,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '+' | '/')
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { rest: text, position: 1 }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        self.position = self.position.saturating_add(1);
        Some(c)
    }

    fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&unwanted) {
            self.bump();
        }
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek().filter(|c| wanted(*c)) {
            taken.push(c);
            self.bump();
        }
        taken
    }

    fn expected<T>(&self, what: &str) -> Result<T, LanguageError> {
        let found = self.peek().map_or("the end".to_owned(), |c| format!("{c:?}"));
        Err(LanguageError::new(self.position, format!("expected {what}, found {found}")))
    }

    /// The name of the next condition's field; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<Value>, LanguageError> {
        self.skip(|c| c.is_whitespace() || c == ',');
        if self.peek().is_none() {
            return Ok(None);
        }
        let position = self.position;
        let text = self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
        if text.is_empty() {
            return self.expected("the name of a field");
        }
        Ok(Some(Value { text, position }))
    }

    /// The operator after a field.
    pub(super) fn op(&mut self) -> Result<Op, LanguageError> {
        self.skip(char::is_whitespace);
        let position = self.position;
        let sign = self.take(|c| matches!(c, '=' | '!' | '<' | '>'));
        Ok(match sign.as_str() {
            "=" | "==" => Op::Equal,
            "!=" | "<>" => Op::Unequal,
            "<" => Op::Less,
            "<=" => Op::AtMost,
            ">" => Op::More,
            ">=" => Op::AtLeast,
            "" => match self.take(|c| c.is_ascii_alphabetic()).to_ascii_lowercase().as_str() {
                "in" => Op::In,
                "notin" | "nin" => Op::NotIn,
                "not" if self.word_follows("in") => Op::NotIn,
                _ => {
                    self.position = position;
                    let reason = "expected an operator: = != < <= > >= in notin";
                    return Err(LanguageError::new(position, reason));
                }
            },
            other => {
                let other: String = other.chars().take(8).collect();
                let reason = format!("{other:?} is no operator; there are = != < <= > >= in notin");
                return Err(LanguageError::new(position, reason));
            }
        })
    }

    /// What follows the operator: a list after `in` and `notin`, one value after all others.
    pub(super) fn values(&mut self, op: Op) -> Result<Vec<Value>, LanguageError> {
        self.skip(char::is_whitespace);
        if !matches!(op, Op::In | Op::NotIn) {
            return Ok(vec![self.value()?]);
        }
        if self.peek() != Some('[') {
            return self.expected("a list such as [DE,SE]");
        }
        self.bump();
        let mut values = Vec::new();
        loop {
            self.skip(char::is_whitespace);
            values.push(self.value()?);
            self.skip(char::is_whitespace);
            match self.peek() {
                Some(',') => {
                    self.bump();
                }
                Some(']') => {
                    self.bump();
                    return Ok(values);
                }
                _ => return self.expected("a comma or the list's end, ]"),
            }
        }
    }

    /// Takes a word if it comes next, after spaces.
    fn word_follows(&mut self, word: &str) -> bool {
        self.skip(char::is_whitespace);
        self.take(|c| c.is_ascii_alphabetic()).eq_ignore_ascii_case(word)
    }

    fn value(&mut self) -> Result<Value, LanguageError> {
        let position = self.position;
        if let Some(quote) = self.peek().filter(|c| matches!(c, '"' | '\'')) {
            self.bump();
            let text = self.take(|c| c != quote);
            if self.bump().is_none() {
                return Err(LanguageError::new(position, "the quotation has no end"));
            }
            return Ok(Value { text, position });
        }
        let text = self.take(is_word);
        if text.is_empty() {
            return self.expected("a value");
        }
        Ok(Value { text, position })
    }
}
