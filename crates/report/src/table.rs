//! A table that every exporter can print: cells are finished text.

use serde::Serialize;

/// Columns and rows of finished text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// Column heads.
    pub columns: Vec<Column>,
    /// Rows, each as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
}

/// Head of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Title.
    pub title: String,
    /// Whether the cells are numbers, so aligned right.
    pub number: bool,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cell {
    /// Text of the cell.
    pub text: String,
    /// Strength of the background in `[0, 1]`, where the exporter has colours.
    pub heat: Option<f64>,
    /// How the value is to be felt.
    pub tone: Tone,
}

/// How a value is to be felt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Neither.
    #[default]
    Plain,
    /// Better than before, or as wanted.
    Good,
    /// Worse than before, or not as wanted.
    Bad,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

impl Cell {
    /// The same cell with a background.
    pub fn heat(self, heat: f64) -> Self {
        Self { heat: Some(heat.clamp(0.0, 1.0)), ..self }
    }

    /// The same cell with a tone.
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

impl Table {
    /// An empty table; a title that begins with `#` makes a column of numbers.
    pub fn new(titles: &[&str]) -> Self {
        let column = |title: &&str| match title.strip_prefix('#') {
            Some(title) => Column { title: title.into(), number: true },
            None => Column { title: (*title).into(), number: false },
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, cells beyond the columns are dropped.
    pub fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = row.into_iter().collect();
        row.resize_with(self.columns.len(), Cell::default);
        self.rows.push(row);
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A Markdown table whose columns line up, so that it reads well as it is. Ends with a line feed.
    pub fn markdown(&self) -> String {
        self.lines(escape)
    }

    /// The same for a terminal: names are printed as they are, only control characters become spaces.
    pub fn plain(&self) -> String {
        self.lines(|text| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }

    fn lines(&self, shown: impl Fn(&str) -> String) -> String {
        let titles: Vec<String> = self.columns.iter().map(|column| shown(&column.title)).collect();
        // Rows are public and may be ragged; a missing cell prints as an empty one.
        let texts = |row: &Vec<Cell>| {
            let text = |index| row.get(index).map_or_else(String::new, |cell: &Cell| shown(&cell.text));
            (0..titles.len()).map(text).collect()
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(texts).collect();
        let width = |index: usize| {
            let cells = rows.iter().map(|row| row[index].chars().count());
            cells.chain([titles[index].chars().count(), 3]).max().unwrap_or(3)
        };
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let line = |cells: &[String]| {
            let mut line = String::from("|");
            for ((cell, &width), column) in cells.iter().zip(&widths).zip(&self.columns) {
                let space = " ".repeat(width - cell.chars().count());
                let (left, right) = if column.number { (space, String::new()) } else { (String::new(), space) };
                line.push_str(&format!(" {left}{cell}{right} |"));
            }
            line + "\n"
        };
        let mut text = line(&titles) + "|";
        for (&width, column) in widths.iter().zip(&self.columns) {
            let dashes = "-".repeat(width);
            text.push_str(&if column.number { format!("-{dashes}:|") } else { format!("-{dashes}-|") });
        }
        text.push('\n');
        rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}

/// Text that cannot end a cell, start a tag or become a link or emphasis in Markdown.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '`' | '\\' | '[' | ']' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_go_right() {
        let mut table = Table::new(&["Class", "#Recall"]);
        table.push(["ok".into(), "99.0 %".into()]);
        table.push(["inclusion".into(), "5.0 %".into()]);
        insta::assert_snapshot!(table.markdown(), @r"
        | Class     | Recall |
        |-----------|-------:|
        | ok        | 99.0 % |
        | inclusion |  5.0 % |
        ");
    }

    #[test]
    fn names_cannot_break_out_of_a_cell() {
        let mut table = Table::new(&["Class"]);
        table.push(["a|b\n<script>&[x](y)".into()]);
        assert_eq!(table.markdown().lines().nth(2), Some(r"| a\|b &lt;script>&amp;\[x\](y) |"));
        assert_eq!(table.plain().lines().nth(2), Some("| a|b <script>&[x](y) |"), "a terminal shows the name itself");
    }

    #[test]
    fn a_ragged_row_still_prints() {
        let mut table = Table::new(&["a", "b"]);
        table.rows.push(vec!["x".into()]);
        assert_eq!(table.markdown().lines().nth(2), Some("| x   |     |"));
    }

    #[test]
    fn short_rows_are_filled() {
        let mut table = Table::new(&["a", "b"]);
        table.push(["x".into()]);
        assert_eq!(table.rows[0].len(), 2);
    }
}
