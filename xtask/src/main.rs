//! Everything a developer of tidings runs: test, tidy, bench, docs.
fn main() {}
