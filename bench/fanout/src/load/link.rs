//! A socket of the load, encrypted or not. Nothing here blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mio::net::TcpStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, SockAddr, Socket, Type};

/// A connection that has been begun.
#[derive(Debug)]
pub struct Link {
    pub socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// What the socket has not taken yet, without TLS.
    unsent: Vec<u8>,
}

/// How a link is begun.
#[derive(Debug, Clone)]
pub struct Dialer {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// Begins a connection from this address.
    pub fn dial(&self, source: Ipv4Addr, receive_bytes: Option<usize>) -> Result<Link> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(SocketAddr::new(IpAddr::V4(source), 0)))?;
        match socket.connect(&self.address.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error.into()),
            _ => {}
        }
        let tls = self.tls.as_ref().map(|config| {
            let name = ServerName::from(self.address.ip());
            ClientConnection::new(Arc::clone(config), name).map(Box::new)
        });
        let socket = TcpStream::from_std(socket.into());
        Ok(Link { socket, tls: tls.transpose()?, unsent: Vec::new() })
    }
}

impl Link {
    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
    }

    /// Whether a read of so many bytes took all there was: a short one does.
    pub fn is_drained_by(&self, bytes: usize, wanted: usize) -> bool {
        self.tls.is_none() && bytes < wanted
    }

    /// Sends these bytes, as far as possible now; the rest with the next call.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None if self.unsent.is_empty() => match self.socket.write(bytes) {
                Ok(sent) => self.unsent.extend_from_slice(&bytes[sent..]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(bytes);
                }
                Err(error) => return Err(error),
            },
            None => self.unsent.extend_from_slice(bytes),
        }
        self.flush()
    }

    /// Sends what was kept back.
    pub fn flush(&mut self) -> io::Result<()> {
        let outcome = match &mut self.tls {
            Some(tls) => loop {
                if !tls.wants_write() {
                    break Ok(());
                }
                if let Err(error) = tls.write_tls(&mut self.socket) {
                    break Err(error);
                }
            },
            None if self.unsent.is_empty() => Ok(()),
            None => self.socket.write(&self.unsent).map(|sent| {
                self.unsent.drain(..sent);
            }),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            outcome => outcome,
        }
    }

    /// The protocol that was agreed on, if any was.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.alpn_protocol()
    }
}

/// TLS 1.3 with a server of this certificate.
pub fn tls_config(certificate: &Path, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(certificate)? {
        roots.add(certificate?)?;
    }
    ensure!(!roots.is_empty(), "there is no certificate");
    let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Thousands of sessions that never end are not resumed.
    config.resumption = rustls::client::Resumption::disabled();
    Some(Arc::new(config)).context("a configuration")
}

/// `EINPROGRESS` on Linux.
const IN_PROGRESS: i32 = 115;
