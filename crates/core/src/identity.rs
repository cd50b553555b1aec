//! Who someone is, as those who vouch for them say it.

/// Who a subscriber or publisher is. Texts are whatever was vouched for, and compared as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// Who vouches for it: the `iss` of a token (RFC 7519, section 4.1.1).
    pub issuer: Option<Box<str>>,
    /// Whom it is about: the `sub` of a token. The same name at another issuer is another user.
    pub user: Option<Box<str>>,
    /// By what it was vouched for: the `jti` of a token.
    pub token_id: Option<Box<str>>,
    /// A number for the key that proved it, together with the issuer it was trusted for: the same
    /// for the same. `None` if no key did.
    pub vouched_by: Option<u64>,
}
