//! Whose tokens a hub trusts: the keys that the settings name, read and checked.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tidings_auth::{Algorithm, Authority, Key, KeyError, SigningKey};

use crate::settings::contradictions::MAKE_KEY;
use crate::settings::{Origin, ServeSettings, Settings, shown_place};

/// Whose tokens are trusted, and what is doubtful about their keys.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Empty if nobody is asked for a token.
    pub(crate) authorities: Vec<TrustedAuthority>,
    /// Texts for people.
    pub(crate) warnings: Vec<String>,
}

/// An issuer and its keys.
#[derive(Debug)]
pub(crate) struct TrustedAuthority {
    /// Which tokens.
    pub(crate) authority: Authority,
    /// Keys that are known, each with where it came from.
    pub(crate) keys: Vec<(Key, String)>,
    /// Where more keys are fetched.
    pub(crate) jwks_urls: Vec<String>,
    /// What fetched keys that do not say it are for.
    pub(crate) algorithm: Option<Algorithm>,
}

impl Trust {
    /// Reads the keys that `settings` name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, one text for each fault, each with the place and what to do. A secret is
    /// in none of them.
    pub(crate) fn load(settings: &Settings) -> Result<Self, Vec<String>> {
        let mut reader = Reader { settings, warnings: Vec::new(), faults: Vec::new() };
        let mut authorities = Vec::new();
        authorities.extend(reader.main_authority());
        for own in &settings.serve.authority {
            let keys = reader.read_files(&own.key_files, "authority", own.algorithm);
            authorities.push(TrustedAuthority {
                authority: Authority {
                    issuer: own.issuer.clone(),
                    audiences: own.audiences.clone(),
                    requires_expiry: own.requires_expiry,
                },
                keys,
                jwks_urls: own.jwks_url.iter().cloned().collect(),
                algorithm: own.algorithm,
            });
        }
        let Reader { warnings, faults, .. } = reader;
        if faults.is_empty() { Ok(Self { authorities, warnings }) } else { Err(faults) }
    }
}

/// Reads keys one after the other, and goes on after what is wrong.
struct Reader<'a> {
    settings: &'a Settings,
    warnings: Vec<String>,
    faults: Vec<String>,
}

impl Reader<'_> {
    /// The authority that the options at the top make, if there is a key.
    fn main_authority(&mut self) -> Option<TrustedAuthority> {
        let ServeSettings { key, key_file, jwks_url, algorithm, issuer, audience, .. } =
            &self.settings.serve;
        if key.is_none() && key_file.is_empty() && jwks_url.is_empty() {
            return None;
        }
        let mut keys = Vec::new();
        if let Some(secret) = key {
            let place = shown_place(self.settings, "key");
            keys.extend(self.parse(secret.expose().as_bytes(), &place, *algorithm));
            if let Origin::File { path, .. } = self.settings.origin("key") {
                self.doubt_readable(path);
            }
        }
        keys.extend(self.read_files(key_file, "key-file", *algorithm));
        Some(TrustedAuthority {
            authority: Authority {
                issuer: issuer.clone(),
                audiences: audience.clone(),
                requires_expiry: self.settings.serve.require_exp,
            },
            keys,
            jwks_urls: jwks_url.clone(),
            algorithm: *algorithm,
        })
    }

    fn read_files(
        &mut self,
        paths: &[PathBuf],
        option: &str,
        algorithm: Option<Algorithm>,
    ) -> Vec<(Key, String)> {
        let mut keys = Vec::new();
        for path in paths {
            let shown = path.display();
            match read_key_file(path) {
                Ok(bytes) => {
                    if SigningKey::parse(&bytes, algorithm).is_ok() {
                        self.doubt_readable(path);
                    }
                    keys.extend(self.parse(&bytes, &shown.to_string(), algorithm));
                }
                Err(error) => {
                    let place = shown_place(self.settings, option);
                    self.faults.push(cannot_read(path, &place, &error));
                }
            }
        }
        keys
    }

    fn parse(
        &mut self,
        bytes: &[u8],
        place: &str,
        algorithm: Option<Algorithm>,
    ) -> Vec<(Key, String)> {
        match Key::parse(bytes, algorithm) {
            Ok(keys) => keys.into_iter().map(|key| (key, place.to_owned())).collect(),
            Err(error) => {
                self.faults.push(cannot_use(place, &error));
                Vec::new()
            }
        }
    }

    /// Warns of a file with which others could make tokens.
    fn doubt_readable(&mut self, path: &Path) {
        if is_readable_by_others(path) {
            self.warnings.push(format!(
                "{}: every user of this machine can read this key and make tokens with it; `chmod 600 \
                 {}` ends that",
                path.display(),
                path.display(),
            ));
        }
    }
}

/// Reads a file that holds a key.
///
/// # Errors
///
/// It cannot be read, or is larger than any key.
pub(crate) fn read_key_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(io::Error::other("it is too large to be a key"));
    }
    Ok(bytes)
}

/// Says why a file with a key cannot be read, and what to do; `place` named it.
pub(crate) fn cannot_read(path: &Path, place: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => format!("correct its path, or make a key: `{MAKE_KEY}`"),
        io::ErrorKind::PermissionDenied => "let this user read it".to_owned(),
        _ => "give a file with a key".to_owned(),
    };
    format!("{}, named by {place}, cannot be read: {error}\n  {advice}", path.display())
}

/// Says why a key cannot be used, and what to do; the key itself is not in it.
pub(crate) fn cannot_use(place: &str, error: &KeyError) -> String {
    let advice = match error {
        KeyError::Empty => format!("`{MAKE_KEY}` makes a key"),
        KeyError::Malformed { .. } | KeyError::Unsupported { .. } | KeyError::OtherUse => {
            "keys are secrets as text, and RSA, P-256, P-384 and Ed25519 keys as PEM or JWK"
                .to_owned()
        }
        KeyError::Encrypted => {
            "store it without a passphrase: `openssl pkey -in FILE -out FILE`".to_owned()
        }
        KeyError::WrongAlgorithm { .. } => {
            "give another --algorithm; without one, the kind of the key decides".to_owned()
        }
        KeyError::TooShort { bytes_min, .. } => {
            format!("`openssl rand -hex {bytes_min}` makes one that is long enough")
        }
        KeyError::Guessable => format!("`{MAKE_KEY}` makes one that nobody guesses"),
        KeyError::RsaLength => "`openssl genrsa 3072` makes one of a good length".to_owned(),
        KeyError::NotASecret { .. } => "give it as a PEM file, with its frame".to_owned(),
        KeyError::Public => {
            "tokens are made with the private key, of which this is the public half".to_owned()
        }
        KeyError::TooMany => "spread them over several files".to_owned(),
    };
    format!("{place}: {error}\n  {advice}")
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_path: &Path) -> bool {
    false
}

/// The largest file with keys: a set of a hundred long ones fits.
const KEY_FILE_BYTES_MAX: u64 = 1 << 20;
