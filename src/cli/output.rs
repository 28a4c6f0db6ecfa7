//! How objects are shown: as a table the way kubectl does, as the API server has them, or by name.
//!
//! Rows are printed as they come. The widths of the columns are those of the first page, so that a long list neither
//! waits for its end nor dances.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::Value;

use crate::api::rollout::Phase;

/// Spaces between columns.
const GAP: usize = 2;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// What matters, in columns
    #[default]
    Table,
    /// More columns
    Wide,
    /// The objects as the API server has them
    Json,
    /// The same as YAML
    Yaml,
    /// Only kind and name, for other commands
    Name,
}

/// How something is meant; a colour where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tone {
    /// Nothing to say of it.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Look at it.
    Warn,
    /// Something is wrong.
    Bad,
    /// Of less interest.
    Faint,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Faint => "2",
        }
    }

    /// The tone of a rollout in that phase.
    #[must_use]
    pub fn of(phase: Phase) -> Self {
        match phase {
            Phase::Completed => Self::Good,
            Phase::Halted | Phase::RollingBack | Phase::RolledBack | Phase::Failed => Self::Bad,
            Phase::AwaitingApproval | Phase::Paused => Self::Warn,
            Phase::Cancelled | Phase::Superseded => Self::Faint,
            Phase::Pending | Phase::Progressing | Phase::Soaking => Self::Plain,
        }
    }
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Tones are shown.
    pub colours: bool,
}

impl Style {
    /// Of standard output: colours on a terminal, unless `NO_COLOR` is set to something or the terminal is a dumb one.
    #[must_use]
    pub fn of_stdout() -> Self {
        let set = std::env::var_os;
        Self::of(std::io::stdout().is_terminal(), set("NO_COLOR").as_deref(), set("TERM").as_deref())
    }

    fn of(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let unwanted = no_color.is_some_and(|value| !value.is_empty());
        Self { colours: is_terminal && !unwanted && term.is_none_or(|term| term != "dumb") }
    }

    /// `text` in a tone.
    #[must_use]
    pub fn paint(self, text: &str, tone: Tone) -> String {
        match tone.code() {
            code if self.colours && !code.is_empty() => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            _ => text.to_owned(),
        }
    }
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// Only with `-o wide`.
    pub wide: bool,
}

/// A column that is always there.
#[must_use]
pub const fn column(title: &'static str) -> Column {
    Column { title, wide: false }
}

/// A column of `-o wide`.
#[must_use]
pub const fn wide(title: &'static str) -> Column {
    Column { title, wide: true }
}

/// One place in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// With a tone.
    #[must_use]
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        let mut text = text.into();
        // A row is a line.
        if text.contains(char::is_control) {
            text = text.replace(char::is_control, " ");
        }
        Self { text, tone }
    }

    /// What it says.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or_else(|| Self::toned("-", Tone::Faint), Self::from)
    }
}

/// A table that is written page by page.
#[derive(Debug)]
pub struct Table {
    columns: &'static [Column],
    style: Style,
    all: bool,
    widths: Vec<usize>,
    headless: bool,
}

impl Table {
    /// An empty one; with every column if `all`.
    #[must_use]
    pub fn new(columns: &'static [Column], all: bool, style: Style) -> Self {
        Self { columns, style, all, widths: Vec::new(), headless: false }
    }

    /// Without its head.
    #[must_use]
    pub fn headless(self, headless: bool) -> Self {
        Self { headless, ..self }
    }

    /// The next rows; before the first of them the head.
    #[must_use]
    pub fn page(&mut self, rows: &[Vec<Cell>]) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|at| self.all || !self.columns[*at].wide).collect();
        let mut text = String::new();
        if self.widths.is_empty() {
            self.widths = self.columns.iter().map(|column| width(column.title)).collect();
            for row in rows {
                for (least, cell) in self.widths.iter_mut().zip(row) {
                    *least = (*least).max(width(&cell.text));
                }
            }
            if !self.headless {
                let head: Vec<Cell> = self.columns.iter().map(|column| column.title.into()).collect();
                self.line(&mut text, &head, &shown);
            }
        }
        for row in rows {
            self.line(&mut text, row, &shown);
        }
        text
    }

    fn line(&self, text: &mut String, row: &[Cell], shown: &[usize]) {
        let last = shown.last().copied();
        for at in shown {
            let Some(cell) = row.get(*at) else { continue };
            *text += &self.style.paint(&cell.text, cell.tone);
            if Some(*at) != last {
                let pad = self.widths[*at].saturating_sub(width(&cell.text)) + GAP;
                *text += &" ".repeat(pad);
            }
        }
        text.push('\n');
    }
}

/// Columns that a text takes on a terminal. What is printed here has no wide characters.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// `value` as `kubectl get -o json` writes an object.
///
/// # Errors
/// When it can't be written, which would be a bug.
pub fn json(value: &Value) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, format);
    serde::Serialize::serialize(value, &mut writer).context("writing JSON")?;
    String::from_utf8(text).context("writing JSON")
}

/// `text` with every line but the first, or every line, moved to the right.
#[must_use]
pub fn indented(text: &str, by: usize, first: bool) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if !line.is_empty() && (first || index > 0) {
            let _ = write!(out, "{:by$}", "");
        }
        out += line;
    }
    out
}

/// One object in a form for programs, or by name; `None` for the forms that are for people.
///
/// # Errors
/// When it can't be written, which would be a bug.
pub fn object(value: &Value, plural: &str, output: Output) -> anyhow::Result<Option<String>> {
    Ok(match output {
        Output::Table | Output::Wide => None,
        Output::Json => Some(json(value)? + "\n"),
        Output::Yaml => Some(serde_yaml::to_string(value).context("writing YAML")?),
        Output::Name => {
            let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            // Kinds of the core group have a version and no group.
            let group = text("/apiVersion").split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
            Some(format!("{}{group}/{}\n", super::fault::singular(plural), text("/metadata/name")))
        }
    })
}

/// `text` without what could move a reader's cursor or rename their window: devices report and people write it. Colours
/// and lines stay.
fn harmless(text: &str) -> Cow<'_, str> {
    let odd = |c: char| c.is_control() && c != '\n';
    if !text.contains(odd) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(odd) {
        clean += &rest[..at];
        rest = &rest[at..];
        let colour = rest.strip_prefix("\u{1b}[").and_then(|code| code.split_once('m'));
        match colour.filter(|(code, _)| code.len() <= 2 && code.bytes().all(|byte| byte.is_ascii_digit())) {
            Some((code, after)) => {
                clean += &format!("\u{1b}[{code}m");
                rest = after;
            }
            None => {
                clean.push(' ');
                rest = rest.split_at(rest.chars().next().map_or(0, char::len_utf8)).1;
            }
        }
    }
    (clean + rest).into()
}

/// Writes to standard output, at once.
///
/// # Errors
/// When nobody reads it any more; the process then ends quietly.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(harmless(text).as_bytes())?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[column("NAME"), wide("NOTE"), column("AGE")];

    fn rows(names: &[&str]) -> Vec<Vec<Cell>> {
        names.iter().map(|name| vec![(*name).into(), "n".into(), Cell::toned("2m", Tone::Good)]).collect()
    }

    #[test]
    fn the_first_page_says_how_wide_columns_are() {
        let mut table = Table::new(COLUMNS, false, Style::default());
        assert_eq!(table.page(&rows(&["abcdef", "b"])), "NAME    AGE\nabcdef  2m\nb       2m\n");
        assert_eq!(table.page(&rows(&["abcdefgh", "c"])), "abcdefgh  2m\nc       2m\n");
        let mut table = Table::new(COLUMNS, true, Style::default()).headless(true);
        assert_eq!(table.page(&rows(&["a"])), "a     n     2m\n");
    }

    #[test]
    fn colours_only_where_somebody_wants_them() {
        let colours = |terminal, no_color: Option<&str>, term: Option<&str>| {
            Style::of(terminal, no_color.map(OsStr::new), term.map(OsStr::new)).colours
        };
        assert!(colours(true, None, Some("xterm")) && colours(true, None, None));
        assert!(colours(true, Some(""), Some("xterm")), "NO_COLOR counts once it is not empty");
        assert!(!colours(false, None, Some("xterm")), "no terminal");
        assert!(!colours(true, Some("1"), Some("xterm")));
        assert!(!colours(true, None, Some("dumb")));
    }

    #[test]
    fn colours_take_no_room() {
        const TWO: &[Column] = &[column("A"), column("B")];
        let mut table = Table::new(TWO, false, Style { colours: true });
        let row = vec![Cell::toned("x", Tone::Bad), "y".into()];
        assert_eq!(table.page(&[row]), "A  B\n\u{1b}[31mx\u{1b}[0m  y\n");
    }

    #[test]
    fn nobody_moves_the_cursor_of_a_reader() {
        assert_eq!(harmless("a\nb"), "a\nb");
        assert_eq!(harmless("\u{1b}[31mred\u{1b}[0m"), "\u{1b}[31mred\u{1b}[0m");
        assert_eq!(harmless("a\u{1b}[2Jb\u{1b}]0;title\u{7}c\rd\u{9b}"), "a [2Jb ]0;title c d ");
        assert_eq!(Cell::from("a\nb\u{1b}[31m"), Cell::from("a b [31m"));
    }

    #[test]
    fn names_are_those_of_kubectl() {
        let name = |version: &str, plural: &str| {
            let value = serde_json::json!({"apiVersion": version, "metadata": {"name": "a"}});
            object(&value, plural, Output::Name).unwrap().unwrap()
        };
        assert_eq!(name("v1", "secrets"), "secret/a\n");
        assert_eq!(name("tranche.dev/v1alpha1", "imageupdatepolicies"), "imageupdatepolicy.tranche.dev/a\n");
    }

    #[test]
    fn lines_are_moved() {
        assert_eq!(indented("a\nb\n", 2, false), "a\n  b");
        assert_eq!(indented("a\n\nb", 2, true), "  a\n\n  b");
    }
}
