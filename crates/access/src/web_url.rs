//! Where other servers are asked: an absolute `http` or `https` URL that was checked once.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use thiserror::Error;

/// The URL of a server that the hub asks or tells.
///
/// It has a host, and neither a fragment nor a user name or password: a URL appears in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl(Url);

/// Why a text is no [`WebUrl`], or one that may not be used here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WebUrlError {
    /// It is not the text of an absolute URL.
    #[error("{text:?} is not an absolute URL: {reason}")]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its scheme is neither `https` nor `http`.
    #[error("the scheme of {text:?} is neither https nor http")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// It holds a user name, a password or a fragment. The text is not repeated.
    #[error("a URL with a user name, a password or a fragment is not taken")]
    Credentials,
    /// It is `http` to another machine, where keys are fetched: whoever sits between could hand out
    /// keys of their own.
    #[error("{url} is not https; keys are fetched over http from this machine alone")]
    Unprotected {
        /// What was given.
        url: String,
    },
}

impl WebUrl {
    /// Parses an absolute `http` or `https` URL.
    ///
    /// # Errors
    ///
    /// It is none, or one with a user name, a password or a fragment.
    pub fn parse(text: &str) -> Result<Self, WebUrlError> {
        let malformed = |reason: String| WebUrlError::Malformed { text: text.to_owned(), reason };
        let url = Url::parse(text).map_err(|error| malformed(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(WebUrlError::Scheme { text: text.to_owned() });
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(WebUrlError::Credentials);
        }
        Ok(Self(url))
    }

    /// Like [`parse`](Self::parse), for what must not be changed on its way: `https`, or `http` to
    /// this machine.
    ///
    /// # Errors
    ///
    /// Those of [`parse`](Self::parse), and [`WebUrlError::Unprotected`].
    pub fn parse_protected(text: &str) -> Result<Self, WebUrlError> {
        let url = Self::parse(text)?;
        if url.is_protected() {
            Ok(url)
        } else {
            Err(WebUrlError::Unprotected { url: url.to_string() })
        }
    }

    /// Tells whether nobody on a network can read or change what is exchanged: it is `https`, or
    /// leads to a loopback address or `localhost`.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        is_protected(&self.0)
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    pub(crate) fn as_url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for WebUrl {
    type Err = WebUrlError;

    fn from_str(text: &str) -> Result<Self, WebUrlError> {
        Self::parse(text)
    }
}

pub(crate) fn is_protected(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, is_url: bool, is_protected: bool) {
        let url = WebUrl::parse(text);
        assert_eq!(url.is_ok(), is_url, "{text}: {url:?}");
        assert_eq!(WebUrl::parse_protected(text).is_ok(), is_protected, "{text}");
    }

    #[test]
    fn keys_are_fetched_over_https_or_from_this_machine() {
        check("https://id.example/jwks.json", true, true);
        check("http://127.0.0.1:8000/jwks", true, true);
        check("http://127.9.9.9/jwks", true, true);
        check("http://[::1]:8000/jwks", true, true);
        check("http://localhost/jwks", true, true);
        check("http://id.example/jwks", true, false);
        check("http://localhost.example/jwks", true, false);
        check("http://10.0.0.1/jwks", true, false);
        check("http://127.0.0.1.example/", true, false);
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        check("", false, false);
        check("/jwks", false, false);
        check("file:///etc/passwd", false, false);
        check("ftp://id.example/", false, false);
        check("https://", false, false);
        check("https://user:secret@id.example/", false, false);
        check("https://id.example/#keys", false, false);
    }

    #[test]
    fn errors_do_not_repeat_passwords() {
        let error = WebUrl::parse("https://user:hunter2@id.example/").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
