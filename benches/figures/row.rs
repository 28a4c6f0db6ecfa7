//! One figure, and the table of all.

use std::path::Path;

use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    /// Absent: it could not be measured here, and the name says why.
    value: Option<f64>,
    unit: &'static str,
    /// At most, or at least. Absent: a figure to know, without a promise.
    limit: Option<f64>,
    /// Which of the two.
    #[serde(skip)]
    at_least: bool,
    ok: Option<bool>,
}

impl Row {
    /// A figure with a promise.
    pub fn limited(name: impl Into<String>, value: f64, unit: &'static str, limit: f64) -> Self {
        let ok = Some(value <= limit);
        Self { name: name.into(), value: Some(rounded(value)), unit, limit: Some(limit), at_least: false, ok }
    }

    /// A figure with a promise of which more is better.
    pub fn at_least(name: impl Into<String>, value: f64, unit: &'static str, limit: f64) -> Self {
        let ok = Some(value >= limit);
        Self { name: name.into(), value: Some(rounded(value)), unit, limit: Some(limit), at_least: true, ok }
    }

    /// A figure to know.
    pub fn known(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value: Some(rounded(value)), unit, limit: None, at_least: false, ok: None }
    }

    /// A figure with a promise that could not be measured here.
    pub fn skipped(name: impl Into<String>, unit: &'static str, limit: f64) -> Self {
        Self { name: name.into(), value: None, unit, limit: Some(limit), at_least: false, ok: None }
    }
}

/// Four digits: no figure here is known better.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// All of them for people.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for Row { name, value, unit, limit, at_least, ok } in rows {
        let value = value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let bound = if *at_least { "at least" } else { "at most" };
        let limit = limit.map_or_else(String::new, |limit| format!("{bound} {limit}"));
        let mark = match ok {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        text.push_str(&format!("{name:width$}  {value:>10} {unit:<14} {limit:<13} {mark}\n"));
    }
    text
}

/// All of them for programs.
pub fn store(rows: &[Row], path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_string_pretty(rows)? + "\n")?;
    Ok(())
}
