//! The examples that the RFCs publish.

use tidings_auth::{Authority, Key, verify};

/// RFC 7515 appendix A.1: HS256, which expired in 2011.
const HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const HS256_KEY: &str = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;

#[test]
fn the_example_of_rfc_7515_appendix_a_1_verifies() {
    let keys = Key::parse(HS256_KEY.as_bytes(), None).unwrap();
    let grant = verify(HS256, &[(&Authority::default(), &keys)], 1_300_819_379).unwrap();
    assert_eq!(grant.identity.issuer.as_deref(), Some("joe"));
    assert_eq!(grant.expires_at, Some(1_300_819_380));
}
