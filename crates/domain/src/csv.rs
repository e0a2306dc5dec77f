//! The tables that are built into the program: lines of comma-separated fields, the first line naming the columns.
//!
//! A field may be quoted to hold commas; no field holds quotes or line ends.

/// One line of a table.
pub(crate) struct Record<'a> {
    columns: &'a [&'a str],
    fields: Vec<String>,
}

impl Record<'_> {
    /// The field in this column; empty where the table has no such column.
    pub(crate) fn text(&self, column: &str) -> &str {
        let place = self.columns.iter().position(|name| *name == column);
        place.and_then(|place| self.fields.get(place)).map_or("", String::as_str)
    }

    /// The field as text of its own, or `None` if it is empty.
    pub(crate) fn maybe(&self, column: &str) -> Option<String> {
        Some(self.text(column)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// The field read as something else, or `None` if it is empty or cannot be read.
    pub(crate) fn parse<T: std::str::FromStr>(&self, column: &str) -> Option<T> {
        self.text(column).parse().ok()
    }
}

/// Reads every line that `read` takes. That it takes all of them is for a test of each table to say: the tables are
/// part of the program, and a program cannot stop because of its own data.
pub(crate) fn read<T>(table: &str, read: impl Fn(&Record<'_>) -> Option<T>) -> Vec<T> {
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    lines.filter_map(|line| read(&Record { columns: &columns, fields: fields(line) })).collect()
}

fn fields(line: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => done.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    done.push(field);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_hold_commas_and_empty_ones_count() {
        assert_eq!(fields("a,\"b, c\",,d"), ["a", "b, c", "", "d"]);
        assert_eq!(fields(""), [""]);
    }

    #[test]
    fn fields_are_found_by_the_name_of_their_column() {
        let table = "name,count\nx,1\ny,\nz,many\n";
        let counts =
            read(table, |record| Some((record.maybe("name")?, record.parse::<u8>("count"))));
        let expected = [("x", Some(1)), ("y", None), ("z", None)];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(read(table, |record| record.maybe("none")), [""; 0]);
    }
}
