//! Values of CSV files that people open in spreadsheets.

/// A value as one field (RFC 4180). What a spreadsheet would take for a formula is made a text by an apostrophe before it
/// (OWASP, "CSV injection"); numbers are left as they are, also those below zero.
pub(crate) fn field(value: &str) -> String {
    let dangerous = value.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number(value);
    let text = if dangerous { format!("'{value}") } else { value.to_owned() };
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

/// A line of such fields.
pub(crate) fn line<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = values.into_iter().map(field).collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

fn is_number(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain(whole) && plain(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_compute_is_text() {
        for (value, written) in [
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""),
            ("-", "'-"),
            ("-1.", "'-1."),
        ] {
            assert_eq!(field(value), written);
        }
    }

    #[test]
    fn numbers_and_plain_words_stay_and_others_are_quoted() {
        for same in ["", "-650000", "0.650000", "-0.5", "rtx-4090", "a=b", "0x1f"] {
            assert_eq!(field(same), same);
        }
        assert_eq!(
            line(["a,b", "say \"x\"", "two\nlines"]),
            "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\n"
        );
    }
}
