//! For whom a proxy connects, as it says before anything else: the PROXY protocol, versions 1 and 2.
//!
//! Exactly its header is read; what follows belongs to the client.

use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Whether a peer is a proxy that has to say for whom it connects.
pub(crate) fn is_from(networks: &[IpNet], peer: SocketAddr) -> bool {
    networks.iter().any(|network| network.contains(&peer.ip()))
}

/// Reads the header: the address of the client, or `None` if the proxy speaks for itself or knows no
/// address.
///
/// # Errors
///
/// If there is no header, or it is malformed, larger than 4 KiB, or not about TCP.
pub(crate) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    socket.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_rest(socket, &mut header).await?;
    } else if header.starts_with(LINE_BEGIN) {
        read_line(socket, &mut header).await?;
    } else {
        return Err(malformed("it does not begin with a PROXY header"));
    }
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    let (parsed, length) = ProxyHeader::parse(&header, config)
        .map_err(|error| malformed(format!("its PROXY header is malformed: {error}")))?;
    if length != header.len() {
        return Err(malformed("its PROXY header is malformed"));
    }
    match parsed.proxied_address() {
        Some(address) if address.protocol == Protocol::Stream => Ok(Some(address.source)),
        Some(_) => Err(malformed("its PROXY header is not about TCP")),
        None => Ok(None),
    }
}

/// Version 2: the length follows the signature.
async fn read_rest(socket: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    header.resize(FIXED_BYTES, 0);
    socket.read_exact(&mut header[SIGNATURE.len()..]).await?;
    let length =
        usize::from(u16::from_be_bytes([header[FIXED_BYTES - 2], header[FIXED_BYTES - 1]]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(malformed("its PROXY header is too large"));
    }
    header.resize(FIXED_BYTES + length, 0);
    socket.read_exact(&mut header[FIXED_BYTES..]).await.map(drop)
}

/// Version 1: a line. What has come of it is looked at before it is taken.
async fn read_line(socket: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    while header.last() != Some(&b'\n') {
        let mut came = [0; LINE_BYTES_MAX];
        let room = LINE_BYTES_MAX - header.len();
        if room == 0 {
            return Err(malformed("its PROXY header is too large"));
        }
        let length = socket.peek(&mut came[..room]).await?;
        let came = &mut came[..length];
        let end = memchr::memchr(b'\n', came).map_or(length, |at| at + 1);
        if end == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        socket.read_exact(&mut came[..end]).await?;
        header.extend_from_slice(&came[..end]);
    }
    Ok(())
}

fn malformed(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// How a header of version 2 begins; one of version 1 is never shorter.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and the length of the rest.
const FIXED_BYTES: usize = 16;
const LINE_BEGIN: &[u8] = b"PROXY ";
/// What the protocol has for its longest line.
const LINE_BYTES_MAX: usize = 107;
/// Far more than addresses take: proxies may add what they know of the client's TLS.
const HEADER_BYTES_MAX: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use proxy_header::{ProxiedAddress, Tlv};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Reads a header that comes in pieces of so many bytes, and what follows it.
    async fn read_pieces(header: &[u8], size: usize) -> io::Result<Option<SocketAddr>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (mut client, (mut accepted, _)) = (client.unwrap(), accepted.unwrap());
        client.set_nodelay(true).unwrap();
        let said = [header, b"next"].concat();
        let sending = async {
            for piece in said.chunks(size) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let reading = async {
            let address = read(&mut accepted).await?;
            let mut rest = Vec::new();
            accepted.read_to_end(&mut rest).await?;
            assert_eq!(rest, b"next", "{address:?}");
            Ok(address)
        };
        tokio::join!(sending, reading).1
    }

    async fn check(header: &[u8], expected: Option<Option<&str>>) {
        for size in [1, 13, 10_000] {
            let read = read_pieces(header, size).await;
            let shown = header.escape_ascii();
            match expected {
                Some(client) => {
                    let client = client.map(|client| client.parse().unwrap());
                    assert_eq!(read.unwrap(), client, "{shown}");
                }
                None => assert!(read.is_err(), "{shown}: {read:?}"),
            }
        }
    }

    fn version_2(proxied: Option<ProxiedAddress>, tlv_bytes: usize) -> Vec<u8> {
        let mut header = proxied.map_or_else(ProxyHeader::with_local, ProxyHeader::with_address);
        if tlv_bytes > 0 {
            header.append_tlv(Tlv::Noop(tlv_bytes));
        }
        let mut encoded = Vec::new();
        header.encode_v2(&mut encoded).unwrap();
        encoded
    }

    #[tokio::test]
    async fn the_header_and_nothing_else_is_read() {
        let four = ["192.0.2.7:4711", "198.51.100.1:443"].map(|address| address.parse().unwrap());
        let six = ["[2001:db8::7]:1", "[2001:db8::1]:443"].map(|address| address.parse().unwrap());
        let stream = |[from, to]: [SocketAddr; 2]| Some(ProxiedAddress::stream(from, to));
        for (header, expected) in [
            (version_2(stream(four), 0), Some("192.0.2.7:4711")),
            (version_2(stream(four), 1_000), Some("192.0.2.7:4711")),
            (version_2(stream(six), 0), Some("[2001:db8::7]:1")),
            (version_2(None, 0), None),
            (version_2(None, 100), None),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec(), Some("192.0.2.7:4711")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n".to_vec(), Some("[2001:db8::7]:1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ::1 ::1 65535 65535\r\n".to_vec(), None),
        ] {
            check(&header, Some(expected)).await;
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let datagram = ["192.0.2.7:1", "192.0.2.8:2"].map(|address| address.parse().unwrap());
        let datagram = ProxiedAddress::datagram(datagram[0], datagram[1]);
        let unix = [&SIGNATURE[..], &[0x21, 0x31, 0, 1, 0]].concat();
        let wrong_command = [&SIGNATURE[..], &[0x22, 0x11, 0, 12], &[0; 12]].concat();
        let too_short = [&SIGNATURE[..], &[0x21, 0x11, 0, 11], &[0; 11]].concat();
        let too_long = [&SIGNATURE[..], &[0x21, 0x11, 0x10, 0], &[0; 4096]].concat();
        for header in [
            &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
            b"",
            b"PROXY",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 70000\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n",
            b"PROXY TCP5 192.0.2.7 198.51.100.1 4711 443\r\n",
            &[b"PROXY UNKNOWN ", &[b'1'; 200][..], b"\r\n"].concat(),
            &version_2(Some(datagram), 0),
            &unix,
            &wrong_command,
            &too_short,
            &too_long,
            &SIGNATURE[..],
        ] {
            check(header, None).await;
        }
    }
}
