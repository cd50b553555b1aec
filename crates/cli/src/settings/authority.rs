//! Whose tokens are trusted besides those of the keys at the top: each issuer with its own keys.

use std::path::PathBuf;

use serde_json::{Value, json};
use tidings_auth::Algorithm;

use crate::options::GivenTable;
use crate::settings::nearest::unknown_key;
use crate::settings::retention::once;
use crate::value::{check_issuer, parse_algorithm, parse_switch, parse_web_url, show_algorithm};

/// An issuer of tokens, and what proves that they are its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthoritySettings {
    /// What `iss` must be; anything, and nothing, if there is none.
    pub(crate) issuer: Option<String>,
    /// Of these, `aud` must name one; anything if there is none.
    pub(crate) audiences: Vec<String>,
    /// Files with keys.
    pub(crate) key_files: Vec<PathBuf>,
    /// Where the issuer tells its keys.
    pub(crate) jwks_url: Option<String>,
    /// What keys that do not say it are for; `None` for what the kind of each says.
    pub(crate) algorithm: Option<Algorithm>,
    /// Whether tokens without an end are refused.
    pub(crate) requires_expiry: bool,
}

/// Reads authorities such as `issuer=https://id.example;jwks-url=https://id.example/jwks`; empty ones
/// are left out.
pub(crate) fn parse_authorities<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<AuthoritySettings>, String> {
    let texts = texts.into_iter().map(str::trim).filter(|text| !text.is_empty());
    let authorities = texts.map(|text| {
        let mut draft = Draft::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` is no name with a value; write issuer=https://id.example.com")
            })?;
            draft.set(&name.trim().replace('-', "_"), value.trim(), '-')?;
        }
        draft.finish()
    });
    check_together(authorities.collect::<Result<_, _>>()?)
}

/// Reads the tables `[[authority]]` of a file.
pub(crate) fn authorities_from_tables(
    tables: &[GivenTable],
) -> Result<Vec<AuthoritySettings>, String> {
    let authorities = tables.iter().map(|table| {
        let mut draft = Draft::default();
        let read = table.values.iter().try_for_each(|(key, value)| draft.set(key, value, '_'));
        let read = read.and_then(|()| draft.finish());
        read.map_err(|wrong| format!("line {}: {wrong}", table.line))
    });
    check_together(authorities.collect::<Result<_, _>>()?)
}

/// The authorities as the configuration file would hold them, on one line.
pub(crate) fn authorities_toml(authorities: &[AuthoritySettings]) -> String {
    let tables: Vec<String> = authorities
        .iter()
        .map(|authority| {
            let AuthoritySettings { issuer, audiences, jwks_url, algorithm, .. } = authority;
            let mut parts = Vec::new();
            parts.extend(issuer.as_ref().map(|issuer| format!("issuer = {}", json!(issuer))));
            if !audiences.is_empty() {
                parts.push(format!("audience = {}", json!(audiences)));
            }
            if !authority.key_files.is_empty() {
                parts.push(format!("key_file = {}", json!(paths(authority))));
            }
            parts.extend(jwks_url.as_ref().map(|url| format!("jwks_url = {}", json!(url))));
            if algorithm.is_some() {
                parts.push(format!("algorithm = {}", json!(show_algorithm(*algorithm))));
            }
            if authority.requires_expiry {
                parts.push("require_exp = true".into());
            }
            format!("{{ {} }}", parts.join(", "))
        })
        .collect();
    format!("[{}]", tables.join(", "))
}

/// The authorities for machines.
pub(crate) fn authorities_json(authorities: &[AuthoritySettings]) -> Value {
    authorities
        .iter()
        .map(|authority| {
            json!({
                "issuer": authority.issuer,
                "audience": authority.audiences,
                "key_file": paths(authority),
                "jwks_url": authority.jwks_url,
                "algorithm": show_algorithm(authority.algorithm),
                "require_exp": authority.requires_expiry,
            })
        })
        .collect()
}

/// An authority of which some parts have been read.
#[derive(Default)]
struct Draft {
    issuer: Option<String>,
    audiences: Vec<String>,
    key_files: Vec<PathBuf>,
    jwks_url: Option<String>,
    algorithm: Option<Option<Algorithm>>,
    requires_expiry: Option<bool>,
}

impl Draft {
    /// Takes the part `name`, whose words the user separates with `dash`.
    fn set(&mut self, name: &str, value: &str, dash: char) -> Result<(), String> {
        let shown = name.replace('_', &dash.to_string());
        let told = |wrong: String| format!("{shown}: {wrong}");
        if value.is_empty() {
            return Err(told("there is no value".into()));
        }
        match name {
            "issuer" => {
                check_issuer(value).map_err(told)?;
                once(&mut self.issuer, value.to_owned(), "issuer")
            }
            "audience" => {
                self.audiences.push(value.to_owned());
                Ok(())
            }
            "key_file" => {
                self.key_files.push(value.into());
                Ok(())
            }
            "jwks_url" => once(&mut self.jwks_url, parse_web_url(value).map_err(told)?, "jwks-url"),
            "algorithm" => {
                once(&mut self.algorithm, parse_algorithm(value).map_err(told)?, "algorithm")
            }
            "require_exp" => {
                once(&mut self.requires_expiry, parse_switch(value).map_err(told)?, "require-exp")
            }
            _ => {
                let known = PARTS.map(|part| part.replace('_', &dash.to_string()));
                Err(unknown_key(&shown, &known))
            }
        }
    }

    fn finish(self) -> Result<AuthoritySettings, String> {
        let Self { issuer, audiences, key_files, jwks_url, algorithm, requires_expiry } = self;
        if key_files.is_empty() && jwks_url.is_none() {
            return Err(
                "nothing proves whose tokens they are: give a key file or the URL of a key \
                        set"
                .into(),
            );
        }
        Ok(AuthoritySettings {
            issuer,
            audiences,
            key_files,
            jwks_url,
            algorithm: algorithm.flatten(),
            requires_expiry: requires_expiry.unwrap_or(false),
        })
    }
}

fn paths(authority: &AuthoritySettings) -> Vec<String> {
    authority.key_files.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn check_together(authorities: Vec<AuthoritySettings>) -> Result<Vec<AuthoritySettings>, String> {
    if authorities.len() > AUTHORITIES_MAX {
        return Err(format!("there are more than {AUTHORITIES_MAX}"));
    }
    Ok(authorities)
}

const PARTS: [&str; 6] = ["issuer", "audience", "key_file", "jwks_url", "algorithm", "require_exp"];

/// The most authorities: a token may have to be held against all of them.
const AUTHORITIES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::{authorities_toml, parse_authorities};

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let read = parse_authorities(text.split('\n')).map(|read| authorities_toml(&read));
        assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn an_authority_is_an_issuer_and_what_proves_its_tokens() {
        check("", Ok("[]"));
        check(
            "issuer=https://id.example;jwks-url=https://id.example/jwks?a=b\n\n",
            Ok(r#"[{ issuer = "https://id.example", jwks_url = "https://id.example/jwks?a=b" }]"#),
        );
        check(
            " key-file=a.pem ; audience=x;audience=y; algorithm=ps256 ;require-exp=true\nkey_file=b",
            Ok(
                r#"[{ audience = ["x","y"], key_file = ["a.pem"], algorithm = "PS256", require_exp = true }, { key_file = ["b"] }]"#,
            ),
        );
    }

    #[test]
    fn what_is_wrong_with_an_authority_is_told() {
        for (text, wrong) in [
            (
                "issuer=a",
                "nothing proves whose tokens they are: give a key file or the URL of a key set",
            ),
            ("key-file=a;isuer=b", "there is no `isuer`; did you mean `issuer`?"),
            (
                "key-file=a;color=b",
                "there is no `color`; there is issuer, audience, key-file, jwks-url, algorithm, \
                 require-exp",
            ),
            ("key-file", "`key-file` is no name with a value; write issuer=https://id.example.com"),
            ("key-file=", "key-file: there is no value"),
            ("key-file=a;algorithm=none", "algorithm: tokens that nobody signed prove nothing"),
            ("key-file=a;issuer=b;issuer=c", "issuer is given twice"),
            ("jwks-url=ftp://a", "jwks-url: this is neither http:// nor https://"),
            ("jwks-url=https://u:p@a", "jwks-url: a user name or a password has no place here"),
        ] {
            check(text, Err(wrong));
        }
    }
}
