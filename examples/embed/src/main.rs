//! A tidings hub inside an axum application.
fn main() {}
