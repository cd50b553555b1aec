//! nchan: Debian's build of the nginx module, with Debian's nginx.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use serde_json::json;

use crate::debian::unpack;
use crate::starting::{filled_in, free_addresses, post, raise_file_limit, user};

/// Two workers that share each port, events in shared memory.
#[derive(Debug)]
pub struct Nchan {
    transport: Transport,
    nginx: PathBuf,
    module: PathBuf,
}

impl Nchan {
    /// Subscribed to by an `EventSource`, or by a WebSocket.
    pub fn new(transport: Transport) -> Self {
        Self { transport, nginx: PathBuf::new(), module: PathBuf::new() }
    }

    fn configuration(&self, wanted: &Wanted, subscribe: &str, publish: &str) -> Result<String> {
        let files = raise_file_limit()?;
        // Each worker may get all of them, though a shared port spreads them.
        let connections = (wanted.connections as u64 + 100).min(files - 100);
        let buffered = wanted.kept_events.max(BUFFERED_EVENTS / wanted.topics.max(1)).max(10);
        let is_http2 = self.transport == Transport::Sse;
        let (tls, scheme) = match &wanted.tls {
            None => (String::new(), ""),
            Some(files) => (
                format!(
                    "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
                    files.certificate.canonicalize()?.display(),
                    files.key.canonicalize()?.display()
                ),
                if is_http2 { " ssl http2" } else { " ssl" },
            ),
        };
        let ping = |kind| {
            wanted.heartbeat.map_or_else(String::new, |interval| {
                format!("nchan_{kind}_ping_interval {};", interval.as_secs().max(1))
            })
        };
        let gaps = [
            ("module", self.module.display().to_string()),
            ("user", user()?),
            ("files", files.to_string()),
            ("connections", connections.to_string()),
            ("buffered", buffered.to_string()),
            ("subscribe", format!("{subscribe}{scheme} reuseport backlog=4096")),
            ("publish", format!("{publish} reuseport backlog=4096")),
            ("tls", tls),
            ("stream-ping", ping("eventsource")),
            ("socket-ping", ping("websocket")),
        ];
        Ok(filled_in(TEMPLATE, &gaps))
    }
}

impl Target for Nchan {
    fn name(&self) -> &'static str {
        match self.transport {
            Transport::Sse => "nchan",
            Transport::WebSocket => "nchan-ws",
        }
    }

    fn prepare(&mut self, cache: &Path) -> Result<Prepared> {
        let nginx = unpack("nginx", cache)?;
        let nchan = unpack("libnginx-mod-nchan", cache)?;
        self.nginx = nginx.root.join("usr/sbin/nginx");
        self.module = nchan.root.join("usr/lib/nginx/modules/ngx_nchan_module.so");
        let settings = json!({
            "worker_processes": "2: as many as there are cores",
            "listen": "reuseport: connections are spread evenly over the workers",
            "multi_accept": "on: connections that come together are taken together",
            "nchan_shared_memory_size": "1g: room for all events that are kept",
            "nchan_message_buffer_length": "at least what is to be kept, and 20,000 events over all topics, so that nobody misses any who is a little behind",
            "nchan_subscriber_first_message": "newest: what was published before is not sent",
            "ping_interval": "as wanted",
            "access_log": "off",
        });
        let version = format!("nginx {}, nchan {} (Debian)", nginx.version, nchan.version);
        Ok(Prepared { version, settings })
    }

    fn offers(&self) -> Offers {
        Offers {
            transport: self.transport,
            tls: true,
            http2: self.transport == Transport::Sse,
            resume: self.transport == Transport::Sse,
            topics_max: 255,
            heartbeat: true,
        }
    }

    fn start(&self, folder: &Path, wanted: &Wanted) -> Result<Running> {
        let folder = folder.canonicalize()?;
        let [subscribe, publish] = free_addresses()?;
        let file = folder.join("nginx.conf");
        let text = self.configuration(wanted, &subscribe.to_string(), &publish.to_string())?;
        fs::write(&file, text)?;
        let mut command = Command::new(&self.nginx);
        command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "error.log"]);
        let served = Served::listening(&mut command, subscribe)
            .with_context(|| fs::read_to_string(folder.join("error.log")).unwrap_or_default())?;
        Ok(Running::several(vec![served], subscribe, publish))
    }

    fn subscribe(&self, topics: &[String], after: Option<&str>) -> Request {
        let kind = match self.transport {
            Transport::Sse => "stream",
            Transport::WebSocket => "socket",
        };
        let id = after.map(|id| ("last-event-id".to_owned(), id.to_owned()));
        Request {
            path: format!("/{kind}/{}", topics.join(",")),
            headers: id.into_iter().collect(),
            ..Request::default()
        }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        post(&format!("/publish/{topic}"), "content-type: text/plain\r\n", data)
    }
}

const TEMPLATE: &str = include_str!("../nginx/nchan.conf");

/// Over all topics; what is published while everybody is written to fits.
const BUFFERED_EVENTS: usize = 20_000;
