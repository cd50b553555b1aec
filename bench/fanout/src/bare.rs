//! The limit: a server that knows nothing but the end of a request, and hands each publish to all
//! its sockets with bare `write(2)` calls.
//!
//! One thread takes connections and publishes; as many as the machine has cores write. What has
//! arrived while a round was written goes out together with the next. A socket that takes nothing
//! more keeps the rest of its bytes. `GET /<topics>` subscribes to topics of eight characters that
//! stand one after another; `POST /<topic>` publishes its body.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, bail};
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Socket, Type};

use crate::uring;

/// Serves until it is killed; `is_uring`: with io_uring instead of `write(2)`.
pub fn serve(is_uring: bool) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let listener = TcpListener::from_std(socket.into());
    println!("http://{}", listener.local_addr()?);
    let mut writers = Vec::new();
    for _ in 0..thread::available_parallelism()?.get() {
        writers.push(if is_uring { uring::start()? } else { Writer::start()? });
    }
    Front { listener, writers, requests: Vec::new(), free: Vec::new(), number: 0 }.serve()
}

/// What a thread that writes is given.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Arrived>,
}

/// What has come since it was looked at last.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Sockets with the topics they are for.
    pub sockets: Vec<(TcpStream, Vec<Topic>)>,
    /// Framed events.
    pub events: Vec<(Topic, Arc<[u8]>)>,
}

pub type Topic = [u8; 8];

impl Inbox {
    /// All that waits.
    pub fn take(&self) -> Arrived {
        std::mem::take(&mut *self.waiting.lock().expect("no thread panics"))
    }
}

/// The other end of an inbox.
pub struct Outbox {
    inbox: Arc<Inbox>,
    wake: Box<dyn Fn() -> io::Result<()> + Send>,
}

impl Outbox {
    pub fn new(inbox: Arc<Inbox>, wake: Box<dyn Fn() -> io::Result<()> + Send>) -> Self {
        Self { inbox, wake }
    }

    fn put(&self, put: impl FnOnce(&mut Arrived)) -> io::Result<()> {
        let mut waiting = self.inbox.waiting.lock().expect("no thread panics");
        let was_empty = waiting.sockets.is_empty() && waiting.events.is_empty();
        put(&mut waiting);
        drop(waiting);
        if was_empty { (self.wake)() } else { Ok(()) }
    }
}

/// The thread that takes connections and publishes.
struct Front {
    listener: TcpListener,
    writers: Vec<Outbox>,
    /// Connections that have not subscribed, or never will.
    requests: Vec<Option<Asking>>,
    free: Vec<usize>,
    /// Of events.
    number: u64,
}

struct Asking {
    socket: TcpStream,
    request: Vec<u8>,
}

impl Front {
    fn serve(&mut self) -> Result<()> {
        let mut poll = Poll::new()?;
        poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        let mut events = Events::with_capacity(1024);
        let mut subscribed = 0;
        loop {
            poll.poll(&mut events, None)?;
            for event in &events {
                if event.token() == LISTENER {
                    self.accept(&poll)?;
                    continue;
                }
                let index = event.token().0;
                let Some(asking) = &mut self.requests[index] else { continue };
                let Some(action) = asking.read()? else { continue };
                match action {
                    Action::Over => self.requests[index] = None,
                    Action::Publish(topic, data) => {
                        asking.socket.write_all(ANSWER)?;
                        self.publish(topic, &data)?;
                        continue;
                    }
                    Action::Subscribe(topics) => {
                        asking.socket.write_all(HEAD)?;
                        poll.registry().deregister(&mut asking.socket)?;
                        let asking = self.requests[index].take().context("it asks")?;
                        let writer = &self.writers[subscribed % self.writers.len()];
                        subscribed += 1;
                        writer.put(|arrived| arrived.sockets.push((asking.socket, topics)))?;
                    }
                }
                self.free.push(index);
            }
        }
    }

    fn accept(&mut self, poll: &Poll) -> Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let index = self.free.pop().unwrap_or(self.requests.len());
            self.requests.resize_with(self.requests.len().max(index + 1), || None);
            poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
            self.requests[index] = Some(Asking { socket, request: Vec::new() });
        }
    }

    fn publish(&mut self, topic: Topic, data: &[u8]) -> Result<()> {
        self.number += 1;
        let mut event = format!("id: bareloop00-{}\ndata: ", self.number).into_bytes();
        event.extend_from_slice(data);
        event.extend_from_slice(b"\n\n");
        let mut chunk = format!("{:X}\r\n", event.len()).into_bytes();
        chunk.extend_from_slice(&event);
        chunk.extend_from_slice(b"\r\n");
        let chunk: Arc<[u8]> = chunk.into();
        for writer in &self.writers {
            writer.put(|arrived| arrived.events.push((topic, Arc::clone(&chunk))))?;
        }
        Ok(())
    }
}

enum Action {
    Subscribe(Vec<Topic>),
    Publish(Topic, Vec<u8>),
    Over,
}

impl Asking {
    /// Reads what is there; what to do if that is a whole request.
    fn read(&mut self) -> Result<Option<Action>> {
        let mut buffer = [0; 8192];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(Some(Action::Over)),
                Ok(bytes) => self.request.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Ok(Some(Action::Over)),
            }
            let Some(head) = memmem::find(&self.request, b"\r\n\r\n") else { continue };
            let path_at = memchr::memchr(b'/', &self.request).context("a path")? + 1;
            let path = self.request[path_at..].split(|byte| *byte == b' ').next();
            let mut topics: Vec<Topic> = Vec::new();
            for topic in path.unwrap_or_default().chunks(8) {
                topics.push(topic.try_into()?);
            }
            if self.request.starts_with(b"GET ") {
                return Ok(Some(Action::Subscribe(topics)));
            }
            let [topic] = topics[..] else { bail!("a publish has one topic") };
            let at = memmem::find(&self.request, b"content-length: ").context("a length")? + 16;
            let digits = self.request[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
            if self.request.len() >= head + 4 + length {
                let data = self.request[head + 4..head + 4 + length].to_vec();
                self.request.clear();
                return Ok(Some(Action::Publish(topic, data)));
            }
        }
    }
}

/// A thread that writes.
struct Writer {
    poll: Poll,
    inbox: Arc<Inbox>,
    sockets: Vec<(TcpStream, Vec<u8>)>,
    by_topic: HashMap<Topic, Vec<usize>>,
}

impl Writer {
    fn start() -> Result<Outbox> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), LISTENER)?;
        let inbox = Arc::new(Inbox::default());
        let mut writer =
            Self { poll, inbox: Arc::clone(&inbox), sockets: Vec::new(), by_topic: HashMap::new() };
        thread::spawn(move || writer.serve());
        Ok(Outbox::new(inbox, Box::new(move || waker.wake())))
    }

    fn serve(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.poll.poll(&mut events, None)?;
            for event in events.iter().filter(|event| event.is_writable()) {
                let (socket, unsent) = &mut self.sockets[event.token().0];
                let kept = std::mem::take(unsent);
                if !kept.is_empty() {
                    write(socket, &kept, unsent);
                }
            }
            let arrived = self.inbox.take();
            for (mut socket, topics) in arrived.sockets {
                let index = self.sockets.len();
                self.poll.registry().register(&mut socket, Token(index), Interest::WRITABLE)?;
                self.sockets.push((socket, Vec::new()));
                for topic in topics {
                    self.by_topic.entry(topic).or_default().push(index);
                }
            }
            for (topic, bytes) in together(&arrived.events) {
                for index in self.by_topic.get(&topic).into_iter().flatten() {
                    let (socket, unsent) = &mut self.sockets[*index];
                    if unsent.is_empty() {
                        write(socket, &bytes, unsent);
                    } else {
                        unsent.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }
}

/// The bytes for each topic, those of one topic in one piece.
pub fn together(events: &[(Topic, Arc<[u8]>)]) -> Vec<(Topic, Vec<u8>)> {
    let mut places = HashMap::new();
    let mut all: Vec<(Topic, Vec<u8>)> = Vec::new();
    for (topic, bytes) in events {
        let place = *places.entry(topic).or_insert(all.len());
        match all.get_mut(place) {
            Some((_, together)) => together.extend_from_slice(bytes),
            None => all.push((*topic, bytes.to_vec())),
        }
    }
    all
}

/// Writes, and keeps what the socket does not take. One that has ended takes everything.
fn write(socket: &mut TcpStream, bytes: &[u8], unsent: &mut Vec<u8>) {
    match socket.write(bytes) {
        Ok(sent) => unsent.extend_from_slice(&bytes[sent..]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => unsent.extend_from_slice(bytes),
        Err(_) => {}
    }
}

const LISTENER: Token = Token(usize::MAX);

const BACKLOG: i32 = 4096;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// With the first chunk, so that subscribers see their streams begin.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache, no-transform\r\ntransfer-encoding: chunked\r\n\r\n\
    F\r\nretry: 2000\n:\n\n\r\n";
