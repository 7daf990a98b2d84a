//! Tables for terminals: columns as wide as they need, states in colour.
//! Pure. Floor 1.

use std::fmt::Write as _;

use super::{Finding, State};

/// A table with a header line; the last column is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|title| title.len())).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let titles: Vec<_> = header.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Findings for a person, what to do below each, and a summary.
pub fn findings(findings: &[Finding], is_coloured: bool) -> String {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { name, state, detail, advice } in findings {
        let (word, colour) = match state {
            State::Ok => ("ok", 32),
            State::Skipped => ("skipped", 36),
            State::Warning => ("warning", 33),
            State::Failed => ("failed", 31),
        };
        let padded = format!("{word:<7}");
        let shown = if is_coloured { format!("\x1b[{colour}m{padded}\x1b[0m") } else { padded };
        let _ = writeln!(text, "{shown}  {name:<width$}  {detail}");
        if !advice.is_empty() {
            let _ = writeln!(text, "{:9}{:width$}  → {advice}", "", "");
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (failed, warned) = (count(State::Failed), count(State::Warning));
    let _ = writeln!(text, "{} checks, {failed} failed, {warned} warnings", findings.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::exit_code;

    #[test]
    fn findings_are_a_table_and_an_exit_code() {
        let mut all = vec![Finding::new("clock", State::Ok, "good"), Finding::new("tls", State::Skipped, "none")];
        assert_eq!(exit_code(&all), 0);
        all.push(Finding::new("range", State::Warning, "small").advise("widen it"));
        assert_eq!(exit_code(&all), 1);
        all.push(Finding::new("source", State::Failed, "gone"));
        assert_eq!(exit_code(&all), 2);
        let text = findings(&all, false);
        assert!(text.starts_with("ok       clock   good\n"), "{text}");
        assert!(text.contains("warning  range   small\n                 → widen it\n"), "{text}");
        assert!(text.ends_with("4 checks, 1 failed, 1 warnings\n"), "{text}");
        assert!(findings(&all, true).contains("\x1b[31mfailed \x1b[0m"));
    }

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let rows = vec![vec!["a".to_owned(), "long cell".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["one", "two", "three"], &rows), "one  two        three\na    long cell  x\n");
    }
}
