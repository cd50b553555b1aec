//! The configuration file: TOML, one key for each option.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::options::{GivenTable, GivenValue};
use crate::settings::Origin;

/// A configuration file that was read; its keys are not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct SettingsFile {
    /// The path as it was given.
    pub(crate) path: PathBuf,
    /// What it holds, from the top.
    pub(crate) entries: Vec<FileEntry>,
}

/// One key of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileEntry {
    /// The key.
    pub(crate) key: String,
    /// The line it stands on, from 1.
    pub(crate) line: usize,
    /// The value.
    pub(crate) value: GivenValue,
}

impl SettingsFile {
    /// Reads the file at `path`, which `origin` named.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not TOML, with the line.
    pub(crate) fn read(path: &Path, origin: &Origin) -> Result<Self, Vec<String>> {
        let bytes = std::fs::read(path).map_err(|error| {
            vec![format!("cannot read {}, named by {origin}: {error}", path.display())]
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| vec![format!("{}: this is not a text file (UTF-8)", path.display())])?;
        Self::parse(path, &text)
    }

    /// Reads `text` as the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`SettingsFile::read`].
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Vec<String>> {
        let at = |span: Option<Range<usize>>| {
            format!("{}:{}", path.display(), span.map_or(1, |span| line_of(text, span.start)))
        };
        let table = DeTable::parse(text)
            .map_err(|error| vec![format!("{}: {}", at(error.span()), error.message())])?;
        let mut entries = Vec::new();
        let mut faults = Vec::new();
        for (key, value) in table.get_ref() {
            let line = line_of(text, key.span().start);
            match given_value(value, text) {
                Ok(value) => {
                    entries.push(FileEntry { key: key.get_ref().to_string(), line, value });
                }
                Err(wrong) => {
                    faults.push(format!("{}: {}: {wrong}", at(Some(key.span())), key.get_ref()));
                }
            }
        }
        entries.sort_by_key(|entry| entry.line);
        if faults.is_empty() { Ok(Self { path: path.to_owned(), entries }) } else { Err(faults) }
    }
}

fn given_value(value: &Spanned<DeValue<'_>>, text: &str) -> Result<GivenValue, String> {
    match value.get_ref() {
        DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => items
            .iter()
            .map(|item| given_table(item, text))
            .collect::<Result<_, _>>()
            .map(GivenValue::Tables),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map(GivenValue::List)
            .ok_or_else(|| "a list here holds strings alone".into()),
        DeValue::Table(_) => Ok(GivenValue::Tables(vec![given_table(value, text)?])),
        single => given_text(single).map(GivenValue::Text),
    }
}

fn given_table(table: &Spanned<DeValue<'_>>, text: &str) -> Result<GivenTable, String> {
    let line = line_of(text, table.span().start);
    let DeValue::Table(values) = table.get_ref() else {
        return Err("a list here holds tables alone, or strings alone".into());
    };
    let mut given = Vec::new();
    for (key, value) in values {
        let key = key.get_ref().to_string();
        let single = std::slice::from_ref(value);
        let items = match value.get_ref() {
            DeValue::Array(items) => items,
            _ => single,
        };
        for item in items {
            let text = given_text(item.get_ref()).map_err(|wrong| format!("{key}: {wrong}"))?;
            given.push((key.clone(), text));
        }
    }
    Ok(GivenTable { line, values: given })
}

/// A single value as the text that a flag would have.
fn given_text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "the number is too large".into()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Datetime(_) => Err("a date has no place here".into()),
        DeValue::Array(_) | DeValue::Table(_) => Err("one value has its place here".into()),
    }
}

/// The line, from 1, of the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
