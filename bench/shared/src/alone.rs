//! The stores through their own clients: the same events in the same batches, and nothing around them.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench_stand::data_of;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls, Statement};
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{Commands, Connection, Pipeline};

use crate::store::{Started, Store};

/// A store, and one connection that appends.
pub enum Alone {
    Redis { connection: Connection, url: String },
    Postgres { client: Box<Client>, insert: Statement, url: String },
}

/// How long single appends took, in microseconds.
pub struct Single {
    /// Until the store had answered.
    pub round_trips_us: Vec<f64>,
    /// Until another connection, which waited, had the event.
    pub receipts_us: Vec<f64>,
}

impl Alone {
    pub fn open(store: Store, started: &Started) -> Result<Self> {
        let url = started.url.clone();
        Ok(match store {
            Store::Redis => {
                let connection = redis::Client::open(&*url)?.get_connection()?;
                Self::Redis { connection, url }
            }
            Store::Postgres => {
                let mut client = Box::new(Client::connect(&url, NoTls)?);
                client.batch_execute(
                    "create table events (id bigint generated always as identity primary key, topic \
                     text not null, data bytea not null)",
                )?;
                let insert = client.prepare(
                    "insert into events (topic, data) select * from unnest($1::text[], $2::bytea[])",
                )?;
                Self::Postgres { client, insert, url }
            }
        })
    }

    /// Appends events with these numbers at once.
    pub fn append(&mut self, numbers: Range<u64>) -> Result<()> {
        match self {
            Self::Redis { connection, .. } => {
                let mut pipeline = Pipeline::with_capacity((numbers.end - numbers.start) as usize);
                for number in numbers {
                    let fields: [(&str, &[u8]); 2] = [("t", b"bench/1"), ("d", &data_of(number))];
                    pipeline.xadd("events", "*", &fields).ignore();
                }
                Ok(pipeline.query(connection)?)
            }
            Self::Postgres { client, insert, .. } => {
                let data: Vec<_> = numbers.map(data_of).collect();
                let topics = vec!["bench/1"; data.len()];
                let data: Vec<&[u8]> = data.iter().map(|data| &data[..]).collect();
                let count = client.execute(&*insert, &[&topics, &data])?;
                ensure!(count as usize == data.len(), "not all was inserted");
                Ok(())
            }
        }
    }

    /// Appends single events, one after the other is received, with a pause between them.
    pub fn append_singly(&mut self, count: usize, pause: Duration) -> Result<Single> {
        let (received, receipts) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let (redis_url, postgres_url) = match self {
            Self::Redis { url, .. } => (Some(url.clone()), None),
            Self::Postgres { url, .. } => (None, Some(url.clone())),
        };
        let receiver = thread::spawn(move || match (redis_url, postgres_url) {
            (Some(url), _) => receive_redis(&url, count, &ready, &received),
            (_, Some(url)) => receive_postgres(&url, count, &ready, &received),
            _ => Ok(()),
        });
        is_ready.recv_timeout(PATIENCE).context("the receiver does not listen")?;
        let mut single = Single { round_trips_us: Vec::new(), receipts_us: Vec::new() };
        for number in 0..count as u64 {
            thread::park_timeout(pause);
            let begin = Instant::now();
            self.append(number..number + 1)?;
            single.round_trips_us.push(begin.elapsed().as_secs_f64() * 1e6);
            if let Self::Postgres { client, .. } = self {
                client.batch_execute("notify appended")?;
            }
            let received_at: Instant =
                receipts.recv_timeout(PATIENCE).context("an event is lost")?;
            single.receipts_us.push((received_at - begin).as_secs_f64() * 1e6);
        }
        receiver.join().expect("the receiver does not panic")?;
        Ok(single)
    }
}

fn receive_redis(
    url: &str,
    count: usize,
    ready: &mpsc::Sender<()>,
    received: &mpsc::Sender<Instant>,
) -> Result<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let last: Vec<(String, Vec<String>)> = connection.xrevrange_count("events", "+", "-", 1)?;
    let mut last = last.into_iter().next().map_or_else(|| "0-0".to_owned(), |(id, _)| id);
    ready.send(())?;
    let options = StreamReadOptions::default().block(PATIENCE.as_millis() as usize);
    let mut seen = 0;
    while seen < count {
        let reply: Option<StreamReadReply> =
            connection.xread_options(&["events"], &[&last], &options)?;
        let now = Instant::now();
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            last = entry.id;
            seen += 1;
            received.send(now)?;
        }
    }
    Ok(())
}

fn receive_postgres(
    url: &str,
    count: usize,
    ready: &mpsc::Sender<()>,
    received: &mpsc::Sender<Instant>,
) -> Result<()> {
    let mut client = Client::connect(url, NoTls)?;
    let read = client.prepare("select id, data from events where id > $1 order by id")?;
    let mut last: i64 = client.query_one("select coalesce(max(id), 0) from events", &[])?.get(0);
    client.batch_execute("listen appended")?;
    ready.send(())?;
    let mut seen = 0;
    while seen < count {
        let notified = client.notifications().timeout_iter(PATIENCE).next()?;
        ensure!(notified.is_some(), "nobody notified");
        for row in client.query(&read, &[&last])? {
            last = row.get(0);
            seen += 1;
            received.send(Instant::now())?;
        }
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);
