//! The limit with io_uring: as [`bare`](crate::bare), but a round is a queue of writes that the
//! kernel takes with few calls. Sockets and the bytes of a round are registered with the kernel.
//!
//! This is the only module of the benchmarks that is not safe: the crate `io-uring` cannot know how
//! long the memory lives that a queued operation points to.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result};
use io_uring::types::Fixed;
use io_uring::{IoUring, opcode, squeue};
use mio::net::TcpStream;

use crate::bare::{Inbox, Outbox, Topic, together};

/// Starts a thread that writes.
pub fn start() -> Result<Outbox> {
    let inbox = Arc::new(Inbox::default());
    let (bell, wake) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    let (sender, started) = channel();
    let taken = Arc::clone(&inbox);
    thread::spawn(move || {
        // The ring belongs to the thread that makes it.
        let writer = Writer::new(taken, bell);
        let outcome = writer.as_ref().map(|_| ()).map_err(|error| format!("{error:#}"));
        let is_heard = sender.send(outcome).is_ok();
        if let Ok(mut writer) = writer
            && is_heard
            && let Err(error) = writer.serve()
        {
            eprintln!("a writer ends: {error:#}");
            std::process::exit(1);
        }
    });
    started.recv()?.map_err(anyhow::Error::msg)?;
    let wake = Mutex::new(wake);
    let ring = move || wake.lock().expect("no thread panics").write_all(b"!");
    Ok(Outbox::new(inbox, Box::new(ring)))
}

struct Writer {
    ring: IoUring,
    inbox: Arc<Inbox>,
    bell: UnixStream,
    /// The bytes of a round, registered as buffer 0. Changed only while nothing is written.
    round: Box<[u8]>,
    /// The n-th is registered as file n.
    sockets: Vec<(TcpStream, Vec<u8>)>,
    by_topic: HashMap<Topic, Vec<usize>>,
    /// Writes that have been queued and are not done.
    writing: usize,
    was_rung: bool,
}

impl Writer {
    fn new(inbox: Arc<Inbox>, bell: UnixStream) -> Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_cqsize(4 * QUEUE_LENGTH)
            .build(QUEUE_LENGTH)
            .context("io_uring is not there")?;
        ring.submitter().register_files_sparse(FILES_MAX)?;
        let mut round = vec![0; ROUND_BYTES_MAX].into_boxed_slice();
        let registered = libc::iovec { iov_base: round.as_mut_ptr().cast(), iov_len: round.len() };
        // SAFETY: `round` is owned beside the ring, never replaced, and dropped after it.
        unsafe { ring.submitter().register_buffers(&[registered])? };
        Ok(Self {
            ring,
            inbox,
            bell,
            round,
            sockets: Vec::new(),
            by_topic: HashMap::new(),
            writing: 0,
            was_rung: true,
        })
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            if self.was_rung {
                self.was_rung = false;
                // Empties it before it is listened to again; how often it rang means nothing.
                let mut rings = [0; 64];
                while self.bell.read(&mut rings).is_ok_and(|bytes| bytes == rings.len()) {}
                let listen = opcode::PollAdd::new(
                    io_uring::types::Fd(self.bell.as_raw_fd()),
                    libc::POLLIN as u32,
                );
                self.queue(&listen.build().user_data(BELL))?;
                let arrived = self.inbox.take();
                self.adopt(arrived.sockets)?;
                self.write_round(&arrived.events)?;
            }
            // What has come while it wrote may have rung already.
            self.submit(usize::from(!self.was_rung))?;
            self.complete();
        }
    }

    fn adopt(&mut self, sockets: Vec<(TcpStream, Vec<Topic>)>) -> Result<()> {
        for (socket, topics) in sockets {
            let index = self.sockets.len();
            self.ring.submitter().register_files_update(index as u32, &[socket.as_raw_fd()])?;
            self.sockets.push((socket, Vec::new()));
            for topic in topics {
                self.by_topic.entry(topic).or_default().push(index);
            }
        }
        Ok(())
    }

    /// Writes all that has come to all that it is for, and waits until that is done.
    fn write_round(&mut self, events: &[(Topic, Arc<[u8]>)]) -> Result<()> {
        let mut used = 0;
        for (topic, bytes) in together(events) {
            for bytes in bytes.chunks(ROUND_BYTES_MAX) {
                if used + bytes.len() > ROUND_BYTES_MAX {
                    self.finish_writes()?;
                    used = 0;
                }
                self.round[used..used + bytes.len()].copy_from_slice(bytes);
                self.queue_writes(topic, used, bytes.len())?;
                used += bytes.len();
            }
        }
        self.finish_writes()
    }

    fn queue_writes(&mut self, topic: Topic, at: usize, length: usize) -> Result<()> {
        let bytes = self.round[at..at + length].as_ptr();
        for place in 0..self.by_topic.get(&topic).map_or(0, Vec::len) {
            let index = self.by_topic[&topic][place];
            let unsent = &mut self.sockets[index].1;
            if !unsent.is_empty() {
                unsent.extend_from_slice(&self.round[at..at + length]);
                continue;
            }
            let write = opcode::WriteFixed::new(Fixed(index as u32), bytes, length as u32, 0);
            let range = (at as u64) << 20 | length as u64;
            debug_assert!(index < 1 << 16);
            self.queue(&write.build().user_data(WRITE | (index as u64) << 44 | range))?;
            self.writing += 1;
        }
        Ok(())
    }

    fn finish_writes(&mut self) -> Result<()> {
        while self.writing > 0 {
            self.submit(1)?;
            self.complete();
        }
        Ok(())
    }

    fn queue(&mut self, entry: &squeue::Entry) -> Result<()> {
        // SAFETY: what the entry points to is `round`, which stays where it is and is not changed
        // until `writing` is 0, that is until this write is done; or nothing.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit(0)?;
            self.complete();
        }
        Ok(())
    }

    fn submit(&self, wanted: usize) -> Result<()> {
        match self.ring.submit_and_wait(wanted) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Looks at what is done.
    fn complete(&mut self) {
        let mut full = Vec::new();
        for done in self.ring.completion() {
            let (data, result) = (done.user_data(), done.result());
            if data == BELL {
                self.was_rung = true;
                continue;
            }
            let index = (data >> 44 & 0xffff) as usize;
            let (socket, unsent) = &mut self.sockets[index];
            if data & WRITE > 0 {
                self.writing -= 1;
                let (at, length) = ((data >> 20 & 0xff_ffff) as usize, (data & 0xf_ffff) as usize);
                let sent = match result {
                    0.. => result as usize,
                    _ if result == -libc::EAGAIN => 0,
                    // One that has ended takes everything.
                    _ => length,
                };
                if sent < length {
                    unsent.extend_from_slice(&self.round[at + sent..at + length]);
                    full.push(index);
                }
            } else {
                match socket.write(unsent) {
                    Ok(sent) => drop(unsent.drain(..sent)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => unsent.clear(),
                }
                if !unsent.is_empty() {
                    full.push(index);
                }
            }
        }
        for index in full {
            let wait = opcode::PollAdd::new(Fixed(index as u32), libc::POLLOUT as u32);
            let entry = wait.build().user_data((index as u64) << 44);
            // SAFETY: it points to nothing.
            while unsafe { self.ring.submission().push(&entry) }.is_err() {
                if let Err(error) = self.ring.submit() {
                    eprintln!("the ring takes nothing more: {error}");
                    std::process::exit(1);
                }
            }
        }
    }
}

/// Marks what an operation is; below are the socket (bits 44 to 59) and the bytes.
const BELL: u64 = 1 << 63;
const WRITE: u64 = 1 << 62;

const QUEUE_LENGTH: u32 = 4096;

/// More than a process may have here.
const FILES_MAX: u32 = 20_000;

/// Less than 2^20, as lengths have 20 bits.
const ROUND_BYTES_MAX: usize = 1 << 19;
