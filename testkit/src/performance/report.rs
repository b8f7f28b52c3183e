//! What a person reads.

use std::fmt::Write as _;

use super::results::{Metric, Results};
use super::stage::Path;
use super::stats::Spread;

/// Medians, one row for each way and target.
#[must_use]
pub fn medians(results: &Results, metrics: &[Metric]) -> Vec<Vec<String>> {
    let mut head = vec!["way".to_owned(), "target".to_owned()];
    head.extend(metrics.iter().map(|metric| metric.title().to_owned()));
    let mut rows = vec![head];
    for (path, target) in results.rows() {
        let figures: Vec<Option<Spread>> = metrics
            .iter()
            .map(|&metric| results.spread(path, target, metric))
            .collect();
        if figures.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![path.to_string(), target.to_string()];
        let figures = figures.iter().zip(metrics);
        row.extend(figures.map(|(figure, metric)| {
            figure.map_or_else(
                || "–".to_owned(),
                |spread| format!("{:.*}", metric.digits(), spread.median),
            )
        }));
        rows.push(row);
    }
    rows
}

/// xbosh over the floor: the median of the rounds' ratios, and their quartiles.
#[must_use]
pub fn ratios(results: &Results, metrics: &[Metric]) -> Vec<Vec<String>> {
    let mut head = vec!["way".to_owned()];
    head.extend(metrics.iter().map(|metric| metric.title().to_owned()));
    let mut rows = vec![head];
    for path in Path::BOSH {
        let cells: Vec<Option<Spread>> = metrics
            .iter()
            .map(|&metric| results.ratio(path, metric))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![path.to_string()];
        row.extend(cells.into_iter().map(|cell| {
            cell.map_or_else(
                || "–".to_owned(),
                |Spread { low, median, high }| format!("{median:.2} ({low:.2}–{high:.2})"),
            )
        }));
        rows.push(row);
    }
    rows
}

/// Columns under each other, for a terminal.
#[must_use]
pub fn plain(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            // Writing to a string does not fail.
            let _ = if column < 2 {
                write!(out, "{cell:<width$}  ")
            } else {
                write!(out, "{cell:>width$}  ")
            };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

/// The same as a table in Markdown.
#[must_use]
pub fn markdown(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let _ = writeln!(out, "| {} |", row.join(" | "));
        if number == 0 {
            let rule: Vec<&str> = row
                .iter()
                .map(|name| match name.as_str() {
                    "way" | "target" => "---",
                    _ => "---:",
                })
                .collect();
            let _ = writeln!(out, "|{}|", rule.join("|"));
        }
    }
    out
}
