use super::*;

#[test]
fn the_shared_log_conforms() {
    crate::conformance::check(|retention, keys| {
        let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
        Box::new(SharedLog::open(InMemoryStore::new(false).engine(), options).unwrap())
    });
}
