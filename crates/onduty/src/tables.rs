//! Tables for people: no lines, columns as wide as they must be.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with these heads.
pub(crate) fn plain(heads: &[&str]) -> Table {
    let mut table = Table::new();
    let _ = table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heads.to_vec());
    for column in table.column_iter_mut() {
        let _ = column.set_padding((0, 2));
    }
    table
}

/// The table as text, without the blanks at the ends of its lines.
pub(crate) fn text(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}
