use super::*;

#[test]
fn the_engine_in_memory_conforms() {
    crate::conformance::check_engine(|| {
        let store = InMemoryStore::new(false);
        move || store.engine()
    });
}

#[test]
fn the_shared_log_conforms() {
    crate::conformance::check(|retention, keys| {
        Box::new(node(&InMemoryStore::new(false), retention, keys))
    });
}

#[test]
fn the_shared_log_conforms_between_nodes() {
    crate::conformance::check_shared(|retention, keys| {
        let store = InMemoryStore::new(false);
        move || Box::new(node(&store, retention.clone(), keys)) as Box<dyn EventLog>
    });
}

fn node(store: &InMemoryStore, retention: Retention, keys: KeyWindow) -> SharedLog<InMemoryEngine> {
    let options = SharedLogOptions { retention, keys, ..SharedLogOptions::default() };
    SharedLog::open(store.engine(), options).unwrap()
}
