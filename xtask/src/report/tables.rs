//! Tables in Markdown, and numbers as they are read.

use std::fmt::Write as _;

/// A table with a header; the columns named in `right` hold numbers.
pub struct Table {
    text: String,
    columns: usize,
}

impl Table {
    pub fn new(header: &[&str], right: impl Fn(usize) -> bool) -> Table {
        let mut table = Table { text: String::new(), columns: header.len() };
        table.row(header.iter().map(|&cell| cell.to_owned()));
        let rules = (0..header.len()).map(|column| if right(column) { "---:" } else { "---" }.to_owned());
        table.row(rules);
        table
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
        assert_eq!(cells.len(), self.columns, "a row has as many cells as the header");
        writeln!(self.text, "| {} |", cells.join(" | ")).expect("a String");
    }

    pub fn text(self) -> String {
        self.text
    }
}

/// `1234567` as `1,234,567`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds as milliseconds.
pub fn ms(ns: u64) -> String {
    format!("{} ms", number(ns / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let all = [0, 999, 1_000, 1_234_567].map(number);
        assert_eq!(all, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["a", "n"], |column| column == 1);
        table.row(["x|y".to_owned(), "1".to_owned()]);
        assert_eq!(table.text(), "| a | n |\n| --- | ---: |\n| x\\|y | 1 |\n");
    }
}
