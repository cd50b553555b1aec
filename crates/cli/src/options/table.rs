//! The rows, one for each option, in the order of the help and the reference page.

use std::time::Duration;

use crate::options::{Default, Group, Kind, OptionRow};
use crate::value::{UNLIMITED, check_cookie_name, check_email, check_issuer};

/// Every option, in the order of the help and the reference page.
pub(crate) const OPTIONS: &[OptionRow] = &[
    OptionRow {
        name: "listen",
        value_name: "ADDR:PORT",
        default: Default::Text("127.0.0.1:8080"),
        group: Group::Listening,
        help: "Address and port to listen on; port 0 takes a free one",
        reference: "The line that `tidings serve` prints when it is ready holds the port that was \
                    taken. An address that other machines can reach needs a key, see \
                    [who may do what](#who-may-do-what), or `--insecure`.",
        kind: Kind::Address(|settings| &mut settings.listen),
    },
    OptionRow {
        name: "insecure",
        value_name: "true|false",
        default: Default::Text("false"),
        group: Group::Listening,
        help: "Listen where other machines can connect, though nobody is asked who they are",
        reference: "Without it and without a key, an address other than loopback is refused. With it, \
                    whoever can connect may publish and subscribe. It cannot be given together with \
                    keys: then everybody is asked.",
        kind: Kind::Switch(|settings| &mut settings.insecure),
    },
    OptionRow {
        name: "cors-origins",
        value_name: "ORIGINS",
        default: Default::None,
        group: Group::Listening,
        help: "Web origins whose pages may use the hub, separated by commas; `*` for all",
        reference: "Origins are compared exactly. Pages of the hub's own origin always may. In the \
                    file this is a list: `cors_origins = [\"https://app.example.com\"]`.",
        kind: Kind::Origins(|settings| &mut settings.cors_origins),
    },
    OptionRow {
        name: "hosts",
        value_name: "NAMES",
        default: Default::None,
        group: Group::Listening,
        help: "Names the hub is reached by besides IP addresses and localhost",
        reference: "On a loopback address, or once a name is given, browsers are refused if they ask for \
                    any other host: else a page of a name that its owner points at 127.0.0.1 could read and \
                    publish everything. A proxy that passes the client's `Host` on needs its names \
                    here; nginx does not pass it on unless it is told to.",
        kind: Kind::Hosts(|settings| &mut settings.hosts),
    },
    OptionRow {
        name: "tls-cert",
        value_name: "FILE",
        default: Default::None,
        group: Group::Listening,
        help: "Encrypt, with the certificate in this PEM file",
        reference: "The certificate, and after it those that lead to one that clients know. Needs \
                    `tls_key`. The hub then speaks TLS 1.2 and 1.3 alone, and over it HTTP/2 and \
                    HTTP/1.1. Without it, it speaks plain HTTP/1.1.",
        kind: Kind::File(|settings| &mut settings.tls_cert),
    },
    OptionRow {
        name: "tls-key",
        value_name: "FILE",
        default: Default::None,
        group: Group::Listening,
        help: "The certificate's private key, a PEM file",
        reference: "Without a passphrase. It may be the same file as `tls_cert`. Both are read \
                    again when they have changed.",
        kind: Kind::File(|settings| &mut settings.tls_key),
    },
    OptionRow {
        name: "tls-self-signed",
        value_name: "true|false",
        default: Default::Text("false"),
        group: Group::Listening,
        help: "Encrypt, with a certificate that the hub makes for itself; for development",
        reference: "For `localhost`, the loopback addresses, the address in `listen` and the names in \
                    `hosts`. It is kept in the folder `tls` of `data`, so that who trusts it need not \
                    do so again. Its fingerprint is told on standard error when the hub is ready. \
                    Clients refuse it unless they are told to trust it.",
        kind: Kind::Switch(|settings| &mut settings.tls_self_signed),
    },
    OptionRow {
        name: "acme-domain",
        value_name: "NAMES",
        default: Default::None,
        group: Group::Listening,
        help: "Encrypt, with a certificate for these names from Let's Encrypt; separated by commas",
        reference: "The hub asks for it, proves by TLS-ALPN-01 (RFC 8737) that the names are its own, and \
                    renews it in time. For that the names must lead to it, and port 443 of theirs to \
                    its port. What it gets is kept in the folder `acme` of `data`. With it, the terms \
                    of the authority are agreed to.",
        kind: Kind::Hosts(|settings| &mut settings.acme_domain),
    },
    OptionRow {
        name: "acme-email",
        value_name: "ADDRESS",
        default: Default::None,
        group: Group::Listening,
        help: "Whom the certificate authority may write to",
        reference: "Needs `acme_domain`.",
        kind: Kind::Text {
            check: check_email,
            allowed: "an e-mail address",
            field: |settings| &mut settings.acme_email,
        },
    },
    OptionRow {
        name: "acme-directory",
        value_name: "URL",
        default: Default::Text("https://acme-v02.api.letsencrypt.org/directory"),
        group: Group::Listening,
        help: "The certificate authority to ask, by the URL of its ACME directory (RFC 8555)",
        reference: "Let's Encrypt has one for trials, which does not count failures: \
                    https://acme-staging-v02.api.letsencrypt.org/directory.",
        kind: Kind::WebUrl(|settings| &mut settings.acme_directory),
    },
    OptionRow {
        name: "acme-ca",
        value_name: "FILE",
        default: Default::None,
        group: Group::Listening,
        help: "Trust the ACME directory's own certificate by this PEM file",
        reference: "For an authority of one's own. Without it, the directory must have a well-known \
                    certificate.",
        kind: Kind::File(|settings| &mut settings.acme_ca),
    },
    OptionRow {
        name: "trusted-proxies",
        value_name: "NETWORKS",
        default: Default::None,
        group: Group::Listening,
        help: "Proxies that are believed when they say whom they ask for (`X-Forwarded-For`)",
        reference: "Addresses and networks, such as `10.0.0.0/8`. The header is read from its end: the \
                    last address that is no such proxy is the client's. What comes from elsewhere is \
                    not believed, and limits for an address count the proxy itself.",
        kind: Kind::Networks(|settings| &mut settings.trusted_proxies),
    },
    OptionRow {
        name: "proxy-protocol",
        value_name: "NETWORKS",
        default: Default::None,
        group: Group::Listening,
        help: "Proxies that begin each connection with the PROXY protocol, version 2",
        reference: "Addresses and networks. A connection from there without it is closed, and one from \
                    elsewhere cannot use it.",
        kind: Kind::Networks(|settings| &mut settings.proxy_protocol),
    },
    OptionRow {
        name: "takeover",
        value_name: "PATH",
        default: Default::None,
        group: Group::Listening,
        help: "Take over from the hub that runs, by this Unix socket, and let the next one do so",
        reference: "If a hub with the same option runs, this one gets its listening sockets, so that no \
                    connection is refused, and that one drains and ends. If none runs, this one starts \
                    as always. Both have to be of the same user. See \
                    [replacing nodes](../operate/replacing-nodes.md#taking-over).",
        kind: Kind::File(|settings| &mut settings.takeover),
    },
    OptionRow {
        name: "config",
        value_name: "FILE",
        default: Default::None,
        group: Group::Listening,
        help: "Read options from this TOML file",
        reference: "No file is read unless one is named, and a named file must exist.",
        kind: Kind::ConfigFile,
    },
    OptionRow {
        name: "key",
        value_name: "SECRET",
        default: Default::None,
        group: Group::Access,
        help: "Trust tokens signed with this secret; better given as a variable, or as a file",
        reference: "For HS256 at least 32 bytes: `openssl rand -hex 32` makes one. Other users of the \
                    machine can see the flags of a running command. Once there is a key of any kind, \
                    publishing needs a token. It is never shown, nor repeated in an error.",
        kind: Kind::Secret(|settings| &mut settings.key),
    },
    OptionRow {
        name: "key-file",
        value_name: "FILE",
        default: Default::None,
        group: Group::Access,
        help: "Trust tokens signed with the key in this file; may be repeated",
        reference: "A secret as text, a public key, private key or certificate as PEM, a JWK, or a JWK set. \
                    A token's key id is only a hint: each key of the right algorithm is tried. Files are \
                    read when the hub starts, and at a reload.",
        kind: Kind::Files(|settings| &mut settings.key_file),
    },
    OptionRow {
        name: "jwks-url",
        value_name: "URL",
        default: Default::None,
        group: Group::Access,
        help: "Trust tokens signed with a key of the set at this URL; may be repeated",
        reference: "A JWK set (RFC 7517) as identity providers publish it. It is fetched when the hub \
                    starts, and again before it grows old and when a token names a key that is not in \
                    it. While it cannot be fetched, the keys known so far hold. Only https, but for a \
                    server on this machine.",
        kind: Kind::WebUrls(|settings| &mut settings.jwks_url),
    },
    OptionRow {
        name: "algorithm",
        value_name: "NAME",
        default: Default::Text("auto"),
        group: Group::Access,
        help: "What the keys in `key`, `key_file` and `jwks_url` are used with",
        reference: "The token has no say in this. `auto` is HS256 for a secret, RS256 for RSA, ES256 or \
                    ES384 by the curve, EdDSA for Ed25519, and what a JWK says of itself. A key of a set that says \
                    another is left out.",
        kind: Kind::Algorithm(|settings| &mut settings.algorithm),
    },
    OptionRow {
        name: "issuer",
        value_name: "ISSUER",
        default: Default::None,
        group: Group::Access,
        help: "Trust only tokens that name this issuer (`iss`)",
        reference: "For the keys of `key`, `key_file` and `jwks_url`. Compared exactly. Without it, `iss` is \
                    not looked at.",
        kind: Kind::Text {
            check: check_issuer,
            allowed: "a text of at most 1024 bytes",
            field: |settings| &mut settings.issuer,
        },
    },
    OptionRow {
        name: "audience",
        value_name: "NAMES",
        default: Default::None,
        group: Group::Access,
        help: "Trust only tokens that are meant for one of these (`aud`)",
        reference: "For the keys of `key`, `key_file` and `jwks_url`. Give it when the issuer makes tokens for \
                    others, too: theirs must not open this hub. Without it, `aud` is not looked at.",
        kind: Kind::Texts(|settings| &mut settings.audience),
    },
    OptionRow {
        name: "require-exp",
        value_name: "true|false",
        default: Default::Text("false"),
        group: Group::Access,
        help: "Refuse tokens that never expire",
        reference: "For the keys of `key`, `key_file` and `jwks_url`.",
        kind: Kind::Switch(|settings| &mut settings.require_exp),
    },
    OptionRow {
        name: "authority",
        value_name: "AUTHORITY",
        default: Default::None,
        group: Group::Access,
        help: "Trust another issuer, with keys of its own: `issuer=..;jwks-url=..`; may be repeated",
        reference: "Its parts are `issuer`, `audience`, `key-file`, `jwks-url`, `algorithm` and \
                    `require-exp`, each as the option of that name; `audience` and `key-file` may be \
                    repeated. In the variable, authorities are separated by line ends; in the file each \
                    is a table, `[[authority]]`.",
        kind: Kind::Authorities(|settings| &mut settings.authority),
    },
    OptionRow {
        name: "anonymous",
        value_name: "true|false",
        default: Default::ByListen { loopback: "true", other: "false" },
        group: Group::Access,
        help: "Let those without a token subscribe to public events",
        reference: "Private events need a right in any case, and so does publishing. Without a key it \
                    says nothing: then everybody may do everything.",
        kind: Kind::Switch(|settings| &mut settings.anonymous),
    },
    OptionRow {
        name: "default-private",
        value_name: "true|false",
        default: Default::Text("false"),
        group: Group::Access,
        help: "Make each event private that is published without saying whether it is",
        reference: "An event with `\"private\": false` is public all the same.",
        kind: Kind::Switch(|settings| &mut settings.default_private),
    },
    OptionRow {
        name: "public-figures",
        value_name: "true|false",
        default: Default::ByListen { loopback: "true", other: "false" },
        group: Group::Access,
        help: "Show `/metrics` and `/stats` to whoever asks",
        reference: "Otherwise they need a token with the right `operate`. They hold counts, and no topics, \
                    users or addresses.",
        kind: Kind::Switch(|settings| &mut settings.public_figures),
    },
    OptionRow {
        name: "token-cookie",
        value_name: "NAME",
        default: Default::Text("tidings_token"),
        group: Group::Access,
        help: "Take tokens from the cookie of this name; empty for no cookie",
        reference: "What changes something (POST, DELETE) is done by cookie only for pages of the hub's own \
                    origin and of those in `cors_origins`.",
        kind: Kind::Text {
            check: check_cookie_name,
            allowed: "the name of a cookie, or nothing",
            field: |settings| &mut settings.token_cookie,
        },
    },
    OptionRow {
        name: "query-token",
        value_name: "true|false",
        default: Default::Text("true"),
        group: Group::Access,
        help: "Take tokens from the query parameter `access_token`",
        reference: "URLs end up in the logs of proxies and in the histories of browsers. A ticket, see \
                    `POST /tickets`, is worth less to who finds it.",
        kind: Kind::Switch(|settings| &mut settings.query_token),
    },
    OptionRow {
        name: "ticket-lifetime",
        value_name: "TIME",
        default: Default::Text("1h"),
        group: Group::Access,
        help: "Let tickets hold for this long, unless they are asked for less",
        reference: "Never longer than the token they were given for. A stream ends with its ticket.",
        kind: Kind::Duration {
            min: SECOND,
            max: DAY,
            field: |settings| &mut settings.ticket_lifetime,
        },
    },
    OptionRow {
        name: "max-tickets",
        value_name: "COUNT",
        default: Default::Text("100000"),
        group: Group::Access,
        help: "Have at most this many tickets out at once",
        reference: "Over it `POST /tickets` is answered with 503 until some have expired.",
        kind: Kind::Count { min: 1, max: 10_000_000, field: |settings| &mut settings.max_tickets },
    },
    OptionRow {
        name: "authorization-webhook",
        value_name: "URL",
        default: Default::None,
        group: Group::Access,
        help: "Ask this URL what a subscriber without a token may see",
        reference: "The hub sends the request's cookies and headers with a POST; the answer says the rights, \
                    the user and for how long. Publishing still needs a token.",
        kind: Kind::WebUrl(|settings| &mut settings.authorization_webhook),
    },
    OptionRow {
        name: "authorization-webhook-timeout",
        value_name: "TIME",
        default: Default::Text("5s"),
        group: Group::Access,
        help: "Wait this long for its answer, then refuse the subscriber",
        reference: "Counts from the question to the end of the answer.",
        kind: Kind::Duration {
            min: TENTH,
            max: MINUTE,
            field: |settings| &mut settings.authorization_webhook_timeout,
        },
    },
    OptionRow {
        name: "authorization-webhook-cache",
        value_name: "TIME",
        default: Default::Text("10s"),
        group: Group::Access,
        help: "Give the same answer for this long to who shows the same",
        reference: "`0s` asks each time.",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            field: |settings| &mut settings.authorization_webhook_cache,
        },
    },
    OptionRow {
        name: "connection-webhook",
        value_name: "URL",
        default: Default::None,
        group: Group::Access,
        help: "Tell this URL who connects and who has gone",
        reference: "At least once each, signed if there is a `webhook_secret`; what cannot be delivered is \
                    tried again.",
        kind: Kind::WebUrl(|settings| &mut settings.connection_webhook),
    },
    OptionRow {
        name: "connection-webhook-debounce",
        value_name: "TIME",
        default: Default::Text("5s"),
        group: Group::Access,
        help: "Say nothing of who is gone for less than this",
        reference: "A page that is loaded anew, or a network that changes, is no news.",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: HOUR,
            field: |settings| &mut settings.connection_webhook_debounce,
        },
    },
    OptionRow {
        name: "webhook-secret",
        value_name: "SECRET",
        default: Default::None,
        group: Group::Access,
        help: "Sign what is sent to webhooks with this secret",
        reference: "As Standard Webhooks have it: HMAC-SHA256 in the header `webhook-signature`. Give it as a \
                    variable. It is never shown.",
        kind: Kind::Secret(|settings| &mut settings.webhook_secret),
    },
    OptionRow {
        name: "log",
        value_name: "WHERE",
        default: Default::Text("disk"),
        group: Group::Kept,
        help: "Where events are kept: on `disk`, in `memory`, or in Redis or Postgres, for many hubs",
        reference: "On disk, events and their ids outlive the process. In memory, they are gone when \
                    the hub ends, and clients that come back with an id of before are told so by a \
                    `tidings.gap` event. In Redis (`redis://`, `rediss://`, `redis+sentinel://`, \
                    `redis+cluster://`, `redis+unix://`) or Postgres (`postgres://`) any number of hubs \
                    share one log: each serves every client. A password does not belong on a \
                    command line, which other users of the machine may read: use the variable or the file.",
        kind: Kind::Log(|settings| &mut settings.log),
    },
    OptionRow {
        name: "data",
        value_name: "DIR",
        default: Default::Text("./tidings-data"),
        group: Group::Kept,
        help: "Folder for what outlives the process",
        reference: "It is made if it is not there, and belongs to one process at a time. The log is in \
                    the folder `log` in it, see `tidings log check`; what the hub must remember of \
                    tokens, certificates and webhooks in others. With `--log memory` it is used only if \
                    it is given.",
        kind: Kind::Folder(|settings| &mut settings.data),
    },
    OptionRow {
        name: "durability",
        value_name: "WHEN",
        default: Default::Text("fsync"),
        group: Group::Kept,
        help: "Answer a publish once the disk has it (`fsync`), or the operating system (`os`)",
        reference: "With `fsync`, what was answered outlives a power cut. With `os` it outlives the \
                    process, and a power cut may take the newest events; then the log begins a new \
                    life, and clients are told of a gap. Unused with `--log memory`.",
        kind: Kind::Choice {
            allowed: &["fsync", "os"],
            field: |settings| &mut settings.durability,
        },
    },
    OptionRow {
        name: "log-events-max",
        value_name: "COUNT",
        default: Default::ByLog { disk: UNLIMITED, memory: "100000", shared: "1000000" },
        group: Group::Kept,
        help: "Keep at most this many events",
        reference: "The oldest events go first. A client that asks for what is gone is told by a \
                    `tidings.gap` event.",
        kind: Kind::Limit {
            min: 1,
            max: 1_000_000_000_000,
            field: |settings| &mut settings.log_events_max,
        },
    },
    OptionRow {
        name: "log-bytes-max",
        value_name: "SIZE",
        default: Default::ByLog { disk: "1GiB", memory: "64MiB", shared: "256MiB" },
        group: Group::Kept,
        help: "Keep at most this much",
        reference: "The oldest events go first. On disk this bounds the files, which go one by one: \
                    each is a 64th of this, from 1 MiB to 256 MiB. At least `max_event_bytes`, and on \
                    disk 4 MiB and twice `max_event_bytes`.",
        kind: Kind::Bytes {
            min: KIB,
            max: 1_024 * TIB,
            field: |settings| &mut settings.log_bytes_max,
        },
    },
    OptionRow {
        name: "log-age-max",
        value_name: "TIME",
        default: Default::ByLog { disk: "7d", memory: "24h", shared: "7d" },
        group: Group::Kept,
        help: "Keep events for at most this long",
        reference: "Older events go when the next one is published, or soon after.",
        kind: Kind::Duration {
            min: SECOND,
            max: CENTURY,
            field: |settings| &mut settings.log_age_max,
        },
    },
    OptionRow {
        name: "retention",
        value_name: "RULE",
        default: Default::None,
        group: Group::Kept,
        help: "Keep less of some topics: `SELECTOR;events=N;age=TIME`; may be repeated",
        reference: "Of each topic that the selector matches, the newest N events are kept, and none \
                    older than the time; one of the two may be left out. The first rule that \
                    matches a topic holds for it, and an event stays for as long as one of its \
                    topics keeps it. The bounds for the whole log hold as well. A topic under a rule \
                    that counts takes about 100 bytes of memory. In the variable, rules are \
                    separated by line ends; in the file each is a table: `[[retention]]` with \
                    `topics`, `events_max` and `age_max`.",
        kind: Kind::Retention(|settings| &mut settings.retention),
    },
    OptionRow {
        name: "key-window",
        value_name: "TIME",
        default: Default::Text("24h"),
        group: Group::Kept,
        help: "Remember idempotency keys for this long",
        reference: "In that time a publish that repeats a key is answered with the id of the first \
                    and delivered once. On disk, keys outlive the process as events do.",
        kind: Kind::Duration { min: SECOND, max: YEAR, field: |settings| &mut settings.key_window },
    },
    OptionRow {
        name: "keys-max",
        value_name: "COUNT",
        default: Default::Text("1000000"),
        group: Group::Kept,
        help: "Remember at most this many idempotency keys",
        reference: "The oldest are forgotten first. Keys that count up, such as those of `tidings \
                    publish --key-prefix`, count as one together. One takes about 150 bytes of \
                    memory.",
        kind: Kind::Count { min: 1, max: 100_000_000, field: |settings| &mut settings.keys_max },
    },
    OptionRow {
        name: "tail-bytes-max",
        value_name: "SIZE",
        default: Default::Text("16MiB"),
        group: Group::Kept,
        help: "Hold at most this much of the newest events ready to send",
        reference: "The tail is what live delivery and short resumes read from; a client further \
                    behind is served from the log. At least `max_event_bytes`.",
        kind: Kind::Bytes {
            min: KIB,
            max: 64 * GIB,
            field: |settings| &mut settings.tail_bytes_max,
        },
    },
    OptionRow {
        name: "tail-events-max",
        value_name: "COUNT",
        default: Default::Text("16384"),
        group: Group::Kept,
        help: "Hold at most this many of the newest events ready to send",
        reference: "See `tail_bytes_max`; whichever limit is reached first counts.",
        kind: Kind::Count {
            min: 16,
            max: 16_777_216,
            field: |settings| &mut settings.tail_events_max,
        },
    },
    OptionRow {
        name: "replay-bytes-max",
        value_name: "SIZE",
        default: Default::Text("64MiB"),
        group: Group::Kept,
        help: "Hold at most this much of what was read back for clients that catch up",
        reference: "For all of them together. Once it is used up, they go on by one event at a time \
                    each.",
        kind: Kind::Bytes {
            min: MIB,
            max: 64 * GIB,
            field: |settings| &mut settings.replay_bytes_max,
        },
    },
    OptionRow {
        name: "heartbeat",
        value_name: "TIME",
        default: Default::Text("15s"),
        group: Group::Streams,
        help: "Send a sign of life after this much silence",
        reference: "Keep it below the idle time-out of every proxy on the way; 60 s is common. The \
                    moment is jittered between streams.",
        kind: Kind::Duration { min: SECOND, max: HOUR, field: |settings| &mut settings.heartbeat },
    },
    OptionRow {
        name: "retry",
        value_name: "TIME",
        default: Default::Text("2s"),
        group: Group::Streams,
        help: "Tell clients to wait this long before they reconnect",
        reference: "Sent as `retry:` at the start of each stream; raised and spread when the hub is \
                    full or shuts down.",
        kind: Kind::Duration {
            min: Duration::from_millis(100),
            max: HOUR,
            field: |settings| &mut settings.retry,
        },
    },
    OptionRow {
        name: "write-timeout",
        value_name: "TIME",
        default: Default::Text("30s"),
        group: Group::Streams,
        help: "Close a connection that takes nothing for this long",
        reference: "Counts only while there is something to send. The client can come back and \
                    resume.",
        kind: Kind::Duration {
            min: SECOND,
            max: HOUR,
            field: |settings| &mut settings.write_timeout,
        },
    },
    OptionRow {
        name: "flush-interval",
        value_name: "TIME",
        default: Default::Text("0s"),
        group: Group::Streams,
        help: "Send live events at most this often, those of the meantime together",
        reference: "`0s` sends each at once; what arrives while others are written leaves together in any \
                    case. A few milliseconds save much of the work where events are many, and delay \
                    each by up to that long.",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: Duration::from_secs(10),
            field: |settings| &mut settings.flush_interval,
        },
    },
    OptionRow {
        name: "drain",
        value_name: "TIME",
        default: Default::Text("5s"),
        group: Group::Streams,
        help: "On shutdown, spread the end of the streams over this long",
        reference: "Starts with the first SIGTERM or SIGINT; a second one ends the process at once. \
                    Give the supervisor's own time-out a few seconds more.",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: HOUR,
            field: |settings| &mut settings.drain,
        },
    },
    OptionRow {
        name: "drain-delay",
        value_name: "TIME",
        default: Default::Text("0s"),
        group: Group::Streams,
        help: "On shutdown, serve on for this long before draining, and only say not to be ready",
        reference: "Gives load balancers the time to find out by `/health/ready` and to send new clients \
                    elsewhere: a little more than the time between two checks, times the failed ones \
                    that they ask for.",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: HOUR,
            field: |settings| &mut settings.drain_delay,
        },
    },
    OptionRow {
        name: "presence",
        value_name: "SELECTOR",
        default: Default::None,
        group: Group::Streams,
        help: "Know who is there on these topics; may be repeated",
        reference: "A member is a user with a stream on one of the topics by its exact name, and with the \
                    right to its private events. See [who is there](../start/presence.md). Without \
                    it, nothing is known and nothing is held. In the variable, selectors are separated \
                    by line ends; in the file this is a list.",
        kind: Kind::Selectors(|settings| &mut settings.presence),
    },
    OptionRow {
        name: "presence-public",
        value_name: "SELECTOR",
        default: Default::None,
        group: Group::Streams,
        help: "Let everybody know how many are there on these topics; may be repeated",
        reference: "Whoever the hub admits counts, and may ask for the numbers. Names need the right to \
                    know them here too. A topic that `presence` matches as well is under that.",
        kind: Kind::Selectors(|settings| &mut settings.presence_public),
    },
    OptionRow {
        name: "presence-grace",
        value_name: "TIME",
        default: Default::Text("15s"),
        group: Group::Streams,
        help: "Tell that a user left after this time without a stream",
        reference: "Who comes back earlier, on whatever node, has not left. Should be longer than clients \
                    take to come back from a hub that shuts down, which is up to five times `retry`, and \
                    than polls are apart.",
        kind: Kind::Duration {
            min: SECOND,
            max: HOUR,
            field: |settings| &mut settings.presence_grace,
        },
    },
    OptionRow {
        name: "max-connections",
        value_name: "COUNT",
        default: Default::Text("100000"),
        group: Group::Limits,
        help: "Serve at most this many connections at once",
        reference: "Further subscribers get an empty stream that tells them to come back later. \
                    Each connection is an open file: the hub raises its soft limit to the hard one, \
                    and serves fewer connections, and says so, when that is not enough.",
        kind: Kind::Count {
            min: 1,
            max: 10_000_000,
            field: |settings| &mut settings.max_connections,
        },
    },
    OptionRow {
        name: "max-connections-per-ip",
        value_name: "COUNT",
        default: Default::Text(UNLIMITED),
        group: Group::Limits,
        help: "Serve at most this many streams at once for one address",
        reference: "Of IPv6, for a network of 64 bits. Behind proxies, give `trusted_proxies` first: else all \
                    clients have the proxy's address. Further subscribers are told to come back later.",
        kind: Kind::Limit {
            min: 1,
            max: 10_000_000,
            field: |settings| &mut settings.max_connections_per_ip,
        },
    },
    OptionRow {
        name: "max-connections-per-user",
        value_name: "COUNT",
        default: Default::Text(UNLIMITED),
        group: Group::Limits,
        help: "Serve at most this many streams at once for one user",
        reference: "The user is the `sub` of a token, together with its `iss`. Further subscribers are told to \
                    come back later.",
        kind: Kind::Limit {
            min: 1,
            max: 10_000_000,
            field: |settings| &mut settings.max_connections_per_user,
        },
    },
    OptionRow {
        name: "publish-rate",
        value_name: "COUNT",
        default: Default::Text(UNLIMITED),
        group: Group::Limits,
        help: "Accept at most this many events a second from one user, or else one address",
        reference: "Over it a publish is answered with 429 and `Retry-After`; NDJSON is read more slowly.",
        kind: Kind::Limit { min: 1, max: RATE_MAX, field: |settings| &mut settings.publish_rate },
    },
    OptionRow {
        name: "publish-burst",
        value_name: "COUNT",
        default: Default::SameAs("publish-rate"),
        group: Group::Limits,
        help: "Accept this many events at once before `publish_rate` counts",
        reference: "Also the most events of one request, NDJSON apart.",
        kind: Kind::Limit { min: 1, max: RATE_MAX, field: |settings| &mut settings.publish_burst },
    },
    OptionRow {
        name: "connect-rate",
        value_name: "COUNT",
        default: Default::Text(UNLIMITED),
        group: Group::Limits,
        help: "Open at most this many streams a second for one user, or else one address",
        reference: "Over it a subscriber is told to come back later.",
        kind: Kind::Limit { min: 1, max: RATE_MAX, field: |settings| &mut settings.connect_rate },
    },
    OptionRow {
        name: "connect-burst",
        value_name: "COUNT",
        default: Default::SameAs("connect-rate"),
        group: Group::Limits,
        help: "Open this many streams at once before `connect_rate` counts",
        reference: "A page with several streams opens them all at once.",
        kind: Kind::Limit { min: 1, max: RATE_MAX, field: |settings| &mut settings.connect_burst },
    },
    OptionRow {
        name: "max-event-bytes",
        value_name: "SIZE",
        default: Default::Text("1MiB"),
        group: Group::Limits,
        help: "Accept events of at most this size",
        reference: "A larger event is answered with 413.",
        kind: Kind::Bytes {
            min: KIB,
            max: 64 * MIB,
            field: |settings| &mut settings.max_event_bytes,
        },
    },
    OptionRow {
        name: "max-body-bytes",
        value_name: "SIZE",
        default: Default::Text("16MiB"),
        group: Group::Limits,
        help: "Accept publish requests of at most this size; NDJSON may be of any length",
        reference: "A larger body is answered with 413. At least `max_event_bytes`.",
        kind: Kind::Bytes { min: KIB, max: GIB, field: |settings| &mut settings.max_body_bytes },
    },
    OptionRow {
        name: "max-topics-per-event",
        value_name: "COUNT",
        default: Default::Text("64"),
        group: Group::Limits,
        help: "Accept events with at most this many topics",
        reference: "An event with more is answered with 400.",
        kind: Kind::Count {
            min: 1,
            max: 1_024,
            field: |settings| &mut settings.max_topics_per_event,
        },
    },
    OptionRow {
        name: "max-selectors",
        value_name: "COUNT",
        default: Default::Text("100"),
        group: Group::Limits,
        help: "Accept subscriptions with at most this many topics and selectors",
        reference: "A subscription with more is answered with 400.",
        kind: Kind::Count { min: 1, max: 10_000, field: |settings| &mut settings.max_selectors },
    },
    OptionRow {
        name: "max-presence-members",
        value_name: "COUNT",
        default: Default::Text("100000"),
        group: Group::Limits,
        help: "Know at most this many members of topics by name, on one node",
        reference: "A user counts for each topic. Further streams are counted without a name. Of one topic, \
                    10,000 at most are known.",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            field: |settings| &mut settings.max_presence_members,
        },
    },
    OptionRow {
        name: "max-head-bytes",
        value_name: "SIZE",
        default: Default::Text("64KiB"),
        group: Group::Limits,
        help: "Accept request heads of at most this size",
        reference: "A larger head is answered with 431. It is also what is buffered of one connection.",
        kind: Kind::Bytes {
            min: 8 * KIB,
            max: MIB,
            field: |settings| &mut settings.max_head_bytes,
        },
    },
    OptionRow {
        name: "head-timeout",
        value_name: "TIME",
        default: Default::Text("15s"),
        group: Group::Limits,
        help: "Close a connection that takes longer for a request's head",
        reference: "Counts from the start, a TLS handshake included, and from one request to the next.",
        kind: Kind::Duration {
            min: TENTH,
            max: HOUR,
            field: |settings| &mut settings.head_timeout,
        },
    },
    OptionRow {
        name: "body-timeout",
        value_name: "TIME",
        default: Default::Text("30s"),
        group: Group::Limits,
        help: "Refuse a request whose body pauses for this long",
        reference: "Between two lines, NDJSON may pause for as long as it likes.",
        kind: Kind::Duration {
            min: TENTH,
            max: HOUR,
            field: |settings| &mut settings.body_timeout,
        },
    },
    OptionRow {
        name: "max-waiting",
        value_name: "COUNT",
        default: Default::Text("4096"),
        group: Group::Limits,
        help: "Hold at most this many connections that have no request under way",
        reference: "New ones, unfinished handshakes and heads, idle ones. Over it the one that has waited \
                    longest is closed, so that a flood of them does not keep others out.",
        kind: Kind::Count { min: 1, max: 10_000_000, field: |settings| &mut settings.max_waiting },
    },
    OptionRow {
        name: "max-streams-per-connection",
        value_name: "COUNT",
        default: Default::Text("256"),
        group: Group::Limits,
        help: "Answer at most this many requests at once on one HTTP/2 connection",
        reference: "Each stream of events is one. More wait in the client.",
        kind: Kind::Count {
            min: 1,
            max: 100_000,
            field: |settings| &mut settings.max_streams_per_connection,
        },
    },
    OptionRow {
        name: "shards",
        value_name: "COUNT",
        default: Default::Cores,
        group: Group::Process,
        help: "Deliver from this many threads",
        reference: "The subscribers of one topic are spread over all of them.",
        kind: Kind::Count { min: 1, max: 1_024, field: |settings| &mut settings.shards },
    },
    OptionRow {
        name: "log-format",
        value_name: "FORMAT",
        default: Default::Text("text"),
        group: Group::Process,
        help: "Write the process's own log to standard error as `text` or `json`",
        reference: "With `json`, each line is one object.",
        kind: Kind::Choice {
            allowed: &["text", "json"],
            field: |settings| &mut settings.log_format,
        },
    },
    OptionRow {
        name: "log-level",
        value_name: "LEVEL",
        default: Default::Text("info"),
        group: Group::Process,
        help: "Log what is at least this grave: error, warn, info, debug, trace",
        reference: "`off` writes nothing. What the hub's libraries say appears from `warn` up.",
        kind: Kind::Choice {
            allowed: &["off", "error", "warn", "info", "debug", "trace"],
            field: |settings| &mut settings.log_level,
        },
    },
    OptionRow {
        name: "url",
        value_name: "URL",
        default: Default::Text("http://127.0.0.1:8080"),
        group: Group::Hub,
        help: "The hub's URL",
        reference: "`/events` is added unless the URL ends with it. Proxies named by the usual \
                    variables are used, except for a hub on this machine.",
        kind: Kind::Url,
    },
    OptionRow {
        name: "token",
        value_name: "TOKEN",
        default: Default::None,
        group: Group::Hub,
        help: "Token to send as `Authorization: Bearer`",
        reference: "Other users of the machine can see the flags of a running command, so the \
                    variable is the better place.",
        kind: Kind::Token,
    },
    OptionRow {
        name: "token-file",
        value_name: "FILE",
        default: Default::None,
        group: Group::Hub,
        help: "File with the token to send; read anew for each request",
        reference: "Whoever renews the token writes the new one there: `tidings tail` goes on with it when \
                    the one before has expired. In place of `token`.",
        kind: Kind::TokenFile,
    },
];

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const CENTURY: Duration = Duration::from_secs(36_500 * 86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The most of anything in a second.
const RATE_MAX: u64 = 10_000_000;
