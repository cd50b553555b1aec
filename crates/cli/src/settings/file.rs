//! The configuration file: TOML, one key for each option.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::options::GivenValue;
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
            match given_value(value) {
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

fn given_value(value: &Spanned<DeValue<'_>>) -> Result<GivenValue, String> {
    Ok(match value.get_ref() {
        DeValue::String(text) => GivenValue::Text(text.to_string()),
        DeValue::Boolean(truth) => GivenValue::Text(truth.to_string()),
        DeValue::Integer(number) => GivenValue::Text(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| "the number is too large")?
                .to_string(),
        ),
        DeValue::Array(items) => GivenValue::List(
            items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or("a list here holds strings alone")?,
        ),
        DeValue::Float(number) => GivenValue::Text(number.as_str().to_owned()),
        DeValue::Datetime(_) => return Err("a date has no place here".into()),
        DeValue::Table(_) => {
            return Err("a table has no place here; all keys stand at the top".into());
        }
    })
}

/// The line, from 1, of the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
