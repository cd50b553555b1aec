//! For whom something is counted: a user, or where nobody knows one, an address.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use tidings::Identity;

use crate::client_address::AddressKey;

/// Where a request comes from, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Source<'a> {
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) address: Option<IpAddr>,
}

/// One for whom something is counted, in a few bytes. It is made with secret keys, so that nobody can
/// look for another user with the same one; that two meet by chance is one in 10^9 with 100,000 of
/// them, and they would then be counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Account(u64);

/// Gives out accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts(RandomState);

impl Accounts {
    /// The account of a user; `None` if the identity names none.
    pub(crate) fn user(&self, identity: Option<&Identity>) -> Option<Account> {
        let identity = identity?;
        let user = identity.user.as_deref()?;
        Some(Account(self.0.hash_one(("user", identity.issuer.as_deref(), user))))
    }

    pub(crate) fn address(&self, address: Option<IpAddr>) -> Option<Account> {
        Some(Account(self.0.hash_one(("address", AddressKey::from(address?)))))
    }

    /// The user's, or else the address's; `None` if neither is known.
    pub(crate) fn source(&self, source: Source<'_>) -> Option<Account> {
        self.user(source.identity).or_else(|| self.address(source.address))
    }

    /// With whom a source is counted when there are too many to count each: a number below `crowds`.
    /// For addresses it is their provider's network that decides.
    pub(crate) fn crowd(&self, source: Source<'_>, crowds: usize) -> usize {
        let crowd = match (self.user(source.identity), source.address.map(|it| it.to_canonical())) {
            (Some(Account(user)), _) => user,
            (None, Some(IpAddr::V4(v4))) => self.0.hash_one(v4.to_bits() >> 16),
            (None, Some(IpAddr::V6(v6))) => self.0.hash_one(v6.to_bits() >> 96),
            (None, None) => 0,
        };
        (crowd % crowds as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(issuer: Option<&str>, user: Option<&str>, token_id: Option<&str>) -> Identity {
        let [issuer, user, token_id] = [issuer, user, token_id].map(|text| text.map(Box::from));
        Identity { issuer, user, token_id, vouched_by: None }
    }

    #[test]
    fn a_user_is_one_of_an_issuer_by_whatever_token_and_from_wherever() {
        let accounts = Accounts::default();
        let account = |identity: &Identity, address: &str| {
            let address = Some(address.parse().unwrap());
            accounts.source(Source { identity: Some(identity), address }).unwrap()
        };
        let ada = identity(Some("a"), Some("ada"), Some("1"));
        let same = identity(Some("a"), Some("ada"), Some("2"));
        assert_eq!(account(&ada, "192.0.2.1"), account(&same, "2001:db8::1"));
        for other in [identity(Some("b"), Some("ada"), None), identity(None, Some("ada"), None)] {
            assert_ne!(account(&ada, "192.0.2.1"), account(&other, "192.0.2.1"));
        }
        let nameless = identity(Some("a"), None, Some("1"));
        assert_eq!(accounts.user(Some(&nameless)), None);
        assert_eq!(account(&nameless, "192.0.2.1"), account(&Identity::default(), "192.0.2.1"));
        assert_ne!(account(&nameless, "192.0.2.1"), account(&nameless, "192.0.2.2"));
        assert_eq!(accounts.source(Source::default()), None);
    }

    #[test]
    fn a_crowd_is_a_provider_s_network() {
        let accounts = Accounts::default();
        let crowd = |address: &str| {
            let address = Some(address.parse().unwrap());
            accounts.crowd(Source { identity: None, address }, usize::MAX)
        };
        assert_eq!(crowd("2001:db8::1"), crowd("2001:db8:ffff::1"));
        assert_ne!(crowd("2001:db8::1"), crowd("2001:db9::1"));
        assert_eq!(crowd("192.0.2.1"), crowd("192.0.3.1"));
        assert_ne!(crowd("192.0.2.1"), crowd("192.1.2.1"));
    }
}
