//! Columns. A row is one line, always: a terminal that is too narrow cuts it, so that rows stay rows.

use crate::screen::{Screen, Tone};

/// Rows under headings.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// One cell for each heading.
    pub fn row(&mut self, cells: Vec<(String, Tone)>) {
        self.rows.push(cells);
    }

    /// Columns as wide as their widest cell, two blanks between them, none at the end.
    pub fn text(&self, screen: &Screen) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|(cell, _)| cell.chars().count());
            cells.chain([self.headings[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let headings: Vec<(String, Tone)> =
            self.headings.iter().map(|heading| (String::from(*heading), Tone::Faint)).collect();
        let mut text = line(&headings, &widths, screen);
        for row in &self.rows {
            text.push_str(&line(row, &widths, screen));
        }
        text
    }
}

fn line(cells: &[(String, Tone)], widths: &[usize], screen: &Screen) -> String {
    let mut text = String::new();
    let last = cells.iter().rposition(|(cell, _)| !cell.is_empty()).map_or(0, |last| last + 1);
    for (column, (cell, tone)) in cells.iter().enumerate().take(last) {
        text.push_str(&screen.paint(*tone, cell));
        if column + 1 < last {
            let blanks = widths[column] + 2 - cell.chars().count();
            text.extend(std::iter::repeat_n(' ', blanks));
        }
    }
    text.push('\n');
    text
}
