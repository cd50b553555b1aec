//! Requests with tokens that must not be believed.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use crate::attack::{Strike, Target};

/// One request after another, over a connection that is kept for as long as the hub keeps it.
pub struct BadTokens {
    target: Target,
    connection: Option<TcpStream>,
}

impl BadTokens {
    pub fn new(target: &Target) -> Self {
        Self { target: target.clone(), connection: None }
    }
}

impl Strike for BadTokens {
    fn strike(&mut self, number: u64) -> Result<()> {
        let token = self.target.tokens.bad(number / 2);
        let head = format!("host: 127.0.0.1\r\nauthorization: Bearer {token}\r\n");
        let request = match number % 2 {
            0 => format!("GET /events?topic=good/1 HTTP/1.1\r\n{head}\r\n"),
            _ => format!(
                "POST /events HTTP/1.1\r\n{head}content-type: application/json\r\n\
                 content-length: {}\r\n\r\n{BODY}",
                BODY.len()
            ),
        };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.target.dial(number)?,
        };
        connection.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        while !is_whole(&answer)? {
            let mut buffer = [0; 4096];
            let bytes = connection.read(&mut buffer).context("the answer to a bad token")?;
            ensure!(bytes > 0, "the connection ended before an answer to a bad token");
            answer.extend(&buffer[..bytes]);
        }
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 401 "), "a bad token was answered {answer}");
        if !answer.to_lowercase().contains("\r\nconnection: close\r\n") {
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// Whether an answer with a length has come.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let answer = String::from_utf8_lossy(answer).to_lowercase();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Ok(false) };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("an answer without a length")?.parse()?;
    Ok(body.len() >= length)
}

const BODY: &str = r#"{"topic":"good/1","data":"forged","private":true}"#;
