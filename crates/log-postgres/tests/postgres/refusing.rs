//! Servers that do not take the hub, or not now: which error, and what it says.

use tidings_log::shared::{Engine, EngineError};
use tidings_log_postgres::PostgresEngine;

use crate::calls::{Node, fresh, record};
use crate::server::{Server, Sql, eventually, free_port};

fn open(url: &str) -> Result<(), EngineError> {
    PostgresEngine::new(url).unwrap().open(None, fresh()).map(drop)
}

/// Opens what cannot be opened, and checks that the words help and hold no secret.
fn check_refused(url: &str, expected: &[&str]) {
    let Err(EngineError::Refused(words)) = open(url) else { panic!("{url}: {:?}", open(url)) };
    for part in expected {
        assert!(words.contains(part), "{part:?} is missing: {words}");
    }
    assert!(!words.contains("s3cret"), "{words}");
}

#[test]
fn a_role_that_is_not_let_in_is_told_what_to_check() {
    let server = Server::start();
    server.sql("create role app login password 'right'; create database app owner app");
    server.ask_for_passwords();
    eventually("passwords are asked for", || open(&server.url_of("app", "app")).is_err());
    check_refused(&server.url_of("app:s3cret", "app"), &["app", "28P01", "user, password"]);
    check_refused(&server.url_of("app", "app"), &["app", "password"]);
    check_refused(&server.url_of("nobody:s3cret", "app"), &["nobody", "28P01"]);
    check_refused(&server.url("nowhere"), &["create database \"nowhere\"", "3D000"]);
    open(&server.url_of("app:right", "app")).unwrap();
}

#[test]
fn a_password_that_was_changed_is_noticed_at_the_next_connection() {
    let server = Server::start();
    server.sql("create role app login password 'right'; create database app owner app");
    server.ask_for_passwords();
    let url = server.url_of("app:right", "app");
    let node = Node::open(&url);
    node.append("a", "1");
    server.sql("alter role app password 'other'");
    node.append("a", "2");
    server.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
    eventually("it is refused", || matches!(node.reopen(3), Err(EngineError::Refused(_))));
    server.sql("alter role app password 'right'");
    assert_eq!(node.reopen(3).unwrap().life, node.opened.life);
    assert_eq!(node.append("a", "3"), 3);
}

#[test]
fn no_more_rights_are_needed_than_the_words_say() {
    let server = Server::start();
    server.sql("create role app login");
    server.sql("create database app");
    let url = server.url_of("app", "app");
    check_refused(&url, &["may not create the schema tidings", "grant create on database \"app\""]);
    Sql::connect(&server.url("app")).run("create schema tidings authorization \"app\"");
    let node = Node::open(&url);
    assert_eq!(node.append("a", "1"), 1);
    // The system's identifier can be read by everybody, or else the start of the server has to do.
    server.sql("select 1");
    Sql::connect(&server.url("app"))
        .run("revoke execute on function pg_control_system() from public");
    let other = Node::open(&url);
    assert_ne!(other.life().epoch, node.opened.life.epoch);
    // Somebody takes a right away later.
    Sql::connect(&server.url("app"))
        .run("alter table tidings.events owner to postgres; revoke all on tidings.events from app");
    let denied = other.publish(&[vec![record("a", "2")]]);
    assert!(
        matches!(&denied, Err(EngineError::Refused(words)) if words.contains("42501")),
        "{denied:?}"
    );
}

#[test]
fn a_schema_of_a_later_hub_is_refused() {
    let server = Server::start();
    drop(Node::open(&server.url("postgres")));
    server.sql("update tidings.about set version = 2");
    check_refused(&server.url("postgres"), &["version 2", "later hub"]);
    server.sql("update tidings.about set version = 1");
    open(&server.url("postgres")).unwrap();
}

#[test]
fn a_schema_that_somebody_drops_is_another_life() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    node.append("a", "1");
    server.sql("drop schema tidings cascade");
    assert_eq!(node.publish(&[vec![record("a", "2")]]), Err(EngineError::OtherLife));
    let again = node.reopen(2).unwrap();
    assert_ne!(again.life.epoch, node.opened.life.epoch);
    assert_eq!((again.bounds.next, node.append("a", "1")), (1, 1));
}

#[test]
fn a_database_that_is_not_utf_8_is_refused() {
    let server = Server::start();
    server.sql("create database latin encoding 'LATIN1' template template0");
    check_refused(&server.url("latin"), &["LATIN1", "encoding 'UTF8'"]);
}

#[test]
fn a_server_that_is_not_there_may_come_back() {
    let url = format!("postgres://me:s3cret@127.0.0.1:{}/app", free_port());
    let Err(EngineError::Unavailable(words)) = open(&url) else { panic!("nobody is there") };
    assert!(words.contains("refused") && !words.contains("s3cret"), "{words}");
}

#[test]
fn a_server_without_a_free_connection_is_tried_again() {
    let server = Server::start();
    server.sql("create role app login connection limit 0; create database app owner app");
    let outcome = open(&server.url_of("app", "app"));
    let Err(EngineError::Unavailable(words)) = outcome else { panic!("{outcome:?}") };
    assert!(words.contains("53300") && words.contains("max_connections"), "{words}");
}

#[test]
fn a_read_only_server_is_read_and_not_written() {
    let server = Server::start();
    let node = Node::open(&server.url("postgres"));
    node.append("a", "1");
    server.sql("alter system set default_transaction_read_only = on");
    server.sql("select pg_reload_conf()");
    let outcome = || node.publish(&[vec![record("a", "2")]]);
    eventually("it cannot be written", || matches!(outcome(), Err(EngineError::Unwritable(_))));
    let Err(EngineError::Unwritable(words)) = outcome() else { panic!("it is read-only") };
    assert!(words.contains("read-only") && words.contains("25006"), "{words}");
    assert!(matches!(node.publish(&[]), Err(EngineError::Unwritable(_))), "a probe tells as well");
    let next = node.engine.bounds(&node.life()).unwrap().next;
    assert!(node.read(1, next).entries.len() as u64 == next - 1);
    Sql::connect(&server.url("postgres")).run(
        "set default_transaction_read_only = off; alter system reset default_transaction_read_only",
    );
    server.sql("select pg_reload_conf()");
    eventually("it can be written", || node.publish(&[]).is_ok());
    assert_eq!(node.append("a", "2"), next);
}
