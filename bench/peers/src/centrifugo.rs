//! Centrifugo: built by the Go toolchain from the module proxy, spoken to in its unidirectional
//! protocol and published to by its HTTP API.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use bench_stand::{Offers, Prepared, Request, Running, Served, Target, Transport, Wanted};
use serde_json::{Map, json};

use crate::go::Module;
use crate::starting::{free_addresses, post, raise_file_limit};

/// One process with its engine in memory.
#[derive(Debug)]
pub struct Centrifugo {
    transport: Transport,
    program: PathBuf,
}

impl Centrifugo {
    /// Subscribed to by an `EventSource`, or by a WebSocket.
    pub fn new(transport: Transport) -> Self {
        Self { transport, program: PathBuf::new() }
    }
}

impl Target for Centrifugo {
    fn name(&self) -> &'static str {
        match self.transport {
            Transport::Sse => "centrifugo",
            Transport::WebSocket => "centrifugo-ws",
        }
    }

    fn prepare(&mut self, cache: &Path) -> Result<Prepared> {
        self.program = MODULE.build(cache)?;
        let settings = json!({
            "engine.type": "memory",
            "uni_sse.enabled": true,
            "uni_websocket.enabled": true,
            "channel.without_namespace": "anybody may subscribe; history of as many events as are to be kept, if any are",
            "client.allow_anonymous_connect_without_token": true,
            "client.channel_limit": TOPICS_MAX,
            "client.ping_interval": "as wanted",
            "http_api.insecure": "publishers need no key",
            "http_server.internal_port": "publishes have a port of their own",
            "http_server.tls_external": "which has no TLS",
            "log.level": "error",
            "usage_stats.disabled": true,
        });
        Ok(Prepared { version: MODULE.describe()?, settings })
    }

    fn offers(&self) -> Offers {
        Offers {
            transport: self.transport,
            tls: true,
            http2: self.transport == Transport::Sse,
            // It writes no ids into event streams.
            resume: false,
            topics_max: TOPICS_MAX,
            heartbeat: true,
        }
    }

    fn start(&self, folder: &Path, wanted: &Wanted) -> Result<Running> {
        raise_file_limit()?;
        let [subscribe, publish] = free_addresses()?;
        let mut channels = json!({
            "allow_subscribe_for_client": true,
            "allow_subscribe_for_anonymous": true,
        });
        if wanted.kept_events > 0 {
            channels["history_size"] = wanted.kept_events.into();
            channels["history_ttl"] = "1h".into();
        }
        let mut client = json!({
            "allow_anonymous_connect_without_token": true,
            "channel_limit": TOPICS_MAX,
        });
        if let Some(heartbeat) = wanted.heartbeat {
            client["ping_interval"] = format!("{}ms", heartbeat.as_millis()).into();
            // Has to be shorter.
            client["pong_timeout"] = format!("{}ms", heartbeat.as_millis() / 2).into();
        }
        let mut server = json!({
            "address": "127.0.0.1",
            "port": subscribe.port(),
            "internal_address": "127.0.0.1",
            "internal_port": publish.port().to_string(),
        });
        if let Some(files) = &wanted.tls {
            server["tls_external"] = true.into();
            server["tls"] = json!({
                "enabled": true,
                "cert_pem": files.certificate,
                "key_pem": files.key,
            });
        }
        let configuration = json!({
            "http_server": server,
            "engine": { "type": "memory" },
            "client": client,
            "channel": { "without_namespace": channels },
            "http_api": { "insecure": true },
            "uni_sse": { "enabled": true },
            "uni_websocket": { "enabled": true },
            "log": { "level": "error" },
            "usage_stats": { "disabled": true },
        });
        let file = folder.join("centrifugo.json");
        fs::write(&file, format!("{configuration:#}"))?;
        let mut command = Command::new(&self.program);
        let served = Served::listening(command.arg("--config").arg(&file), subscribe)?;
        Ok(Running::several(vec![served], subscribe, publish))
    }

    fn subscribe(&self, topics: &[String], _after: Option<&str>) -> Request {
        let topics: Map<_, _> = topics.iter().map(|topic| (topic.clone(), json!({}))).collect();
        let connect = json!({ "subs": topics }).to_string();
        match self.transport {
            Transport::Sse => Request {
                path: format!("/connection/uni_sse?cf_connect={}", escaped(&connect)),
                ..Request::default()
            },
            Transport::WebSocket => Request {
                path: "/connection/uni_websocket".to_owned(),
                hello: vec![connect],
                ..Request::default()
            },
        }
    }

    fn publish(&self, topic: &str, data: &str) -> Vec<u8> {
        let body = json!({ "channel": topic, "data": data }).to_string();
        post("/api/publish", "content-type: application/json\r\n", &body)
    }

    fn patience(&self) -> u32 {
        4
    }
}

/// As part of a query.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).into(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

const TOPICS_MAX: usize = 255;

/// The newest that the proxy gave.
const MODULE: Module = Module {
    name: "centrifugo",
    module: "github.com/centrifugal/centrifugo/v6",
    version: "v6.9.6",
    package: "github.com/centrifugal/centrifugo/v6",
    tags: "",
};
