//! Lists as tables: a column for each field, as wide as it has to be.

use std::io::{self, Write as _};

use serde_json::Value;

use super::view::plain;

/// A column: its head, and the field that it shows.
pub(super) type Column = (&'static str, &'static str);

/// Prints the rows; an absent field is empty.
pub(super) fn print(columns: &[Column], rows: &[Value]) -> io::Result<()> {
    io::stdout().lock().write_all(render(columns, rows).as_bytes())
}

fn render(columns: &[Column], rows: &[Value]) -> String {
    let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let cells = rows.iter().map(|row| {
        let cell = |(_, field): &Column| plain(row.get(field).unwrap_or(&Value::Null));
        columns.iter().map(cell).collect()
    });
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(cells).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let rows = [
            json!({"a": "long one", "b": 1}),
            json!({"a": "x\u{1b}[2J", "b": null}),
        ];
        let text = render(&[("A", "a"), ("B", "b"), ("C", "c")], &rows);
        assert_eq!(text, "A         B  C\nlong one  1\nx\u{fffd}[2J\n");
        assert_eq!(render(&[("A", "a")], &[]), "A\n");
    }
}
