//! Tables for a person.

use std::fmt::Write;

/// Adds `rows` to `text`, the first of which is the head: names to the left, numbers to the right.
pub fn lay_out(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let layout = |column| {
        let width = cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let is_number = column > 0 && cells(column).skip(1).all(|cell| is_number(cell));
        (width, is_number)
    };
    let layouts: Vec<_> = (0..columns).map(layout).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, (width, is_number)) in row.iter().zip(&layouts) {
            let _ = match is_number {
                true => write!(line, "  {cell:>width$}"),
                false => write!(line, "  {cell:<width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn is_number(cell: &str) -> bool {
    cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_to_the_left_and_numbers_to_the_right() {
        let rows: Vec<Vec<String>> =
            [&["name", "times", "ms", "at"][..], &["ä", "7", "0.250", "0x3f8"], &["1", "1000"]]
                .iter()
                .map(|row| row.iter().map(|cell| (*cell).to_owned()).collect())
                .collect();
        let mut text = String::new();
        lay_out(&mut text, &rows);
        let expect = "  name  times     ms  at
  ä         7  0.250  0x3f8
  1      1000
";
        assert_eq!(text, expect);
    }
}
