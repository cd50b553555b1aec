//! `tidings config`: the settings in effect, where each came from, and whether they hold.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::iter;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::exposure::Exposure;
use crate::failure::Failure;
use crate::options::serve_options;
use crate::serve;
use crate::settings::contradictions::webhook_doubts;
use crate::settings::load::{Loaded, load, usage};
use crate::settings::{Origin, Settings};
use crate::trust::Trust;

mod exposure;

/// The command and its arguments.
pub(crate) fn command() -> Command {
    let show = Command::new("show")
        .about(
            "Print the options in effect, as a configuration file that says where each came from",
        )
        .after_help(SHOW_EXAMPLES)
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print one JSON object a line; sizes in bytes, times in milliseconds"),
        );
    let check = Command::new("check")
        .about("Tell whether `tidings serve` with the same options would start, and what is open to whom")
        .after_help(CHECK_EXAMPLES)
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print one JSON object on a line"),
        );
    Command::new("config")
        .about("Show or check the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands([serve::with_options(show), serve::with_options(check)])
}

/// Shows or checks.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (name, matches) = matches.subcommand().unwrap_or(("check", matches));
    let loaded = load(matches)?;
    for warning in loaded.warnings.iter().chain(&webhook_doubts(&loaded.settings)) {
        eprintln!("tidings: {warning}");
    }
    let text = match name {
        "show" if matches.get_flag("json") => json_lines(&loaded),
        "show" => config_file(&loaded),
        _ => check(&loaded.settings, matches.get_flag("json"))?,
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::from_output(&error))
}

/// What is open to whom, if the keys and certificates can be used.
fn check(settings: &Settings, json: bool) -> Result<String, Failure> {
    let trust = Trust::load(settings).map_err(usage)?;
    serve::check(settings, &trust)?;
    let exposure = Exposure::of(settings, &trust);
    for warning in &trust.warnings {
        eprintln!("tidings: {warning}");
    }
    if json {
        let mut members = exposure.members();
        members.insert("valid".into(), json!(true));
        return Ok(format!("{}\n", Value::Object(members)));
    }
    Ok(format!("the configuration is valid\n\n{}", exposure.lines()))
}

/// The settings as a configuration file, with the origins as comments.
fn config_file(loaded: &Loaded) -> String {
    let mut text = match &loaded.file {
        Some((path, origin)) => format!("# configuration file: {} ({origin})\n", path.display()),
        None => "# configuration file: none\n".to_owned(),
    };
    let lines: Vec<(String, String)> = serve_options()
        .filter_map(|row| {
            let serve = &loaded.settings.serve;
            let origin = loaded.settings.origin(row.name).to_string();
            let key = row.key()?;
            if row.is_hidden(serve) {
                return Some((format!("# {key} is set, and not shown"), origin));
            }
            Some((format!("{key} = {}", row.kind.toml(serve)), origin))
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    for (line, origin) in lines {
        let _ = writeln!(text, "{line:width$}  # {origin}");
    }
    text
}

/// One setting, for machines.
#[derive(Serialize)]
struct JsonLine<'a> {
    name: &'a str,
    value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    origin: &'static str,
    at: String,
}

/// The settings as one JSON object a line.
fn json_lines(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let (path, origin) = match &loaded.file {
        Some((path, origin)) => (json!(path.to_string_lossy()), origin),
        None => (Value::Null, &Origin::Default),
    };
    let file = ("config".to_owned(), path, None, origin);
    let rows = serve_options().filter_map(|row| {
        Some((
            row.key()?,
            row.kind.json(&settings.serve),
            row.kind.unit(),
            settings.origin(row.name),
        ))
    });
    let mut text = String::new();
    for (name, value, unit, origin) in iter::once(file).chain(rows) {
        let line =
            JsonLine { name: &name, value, unit, origin: origin.kind(), at: origin.to_string() };
        text.push_str(&serde_json::to_string(&line).unwrap_or_default());
        text.push('\n');
    }
    text
}

const SHOW_EXAMPLES: &str = "\
Examples:
  tidings config show                              the defaults, and what the variables change
  tidings config show > tidings.toml               a file to start from
  tidings config show --config tidings.toml --json | jq -c 'select(.origin != \"default\")'";

const CHECK_EXAMPLES: &str = "\
Examples:
  tidings config check --config tidings.toml && systemctl restart tidings
  tidings config check --config tidings.toml --json | jq .publish

Keys and certificates are read and checked; key sets at URLs are named, and not fetched. Status 0 if
the hub would start, 2 if not.";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::config_file;
    use crate::settings::file::SettingsFile;
    use crate::settings::load::Loaded;
    use crate::settings::merge;

    #[test]
    fn what_is_shown_is_a_file_that_gives_the_same_settings() {
        let flags = |name: &str| {
            let given = match name {
                "cors-origins" => "https://a.example,https://b.example",
                "hosts" => "Hub.example, a.b",
                "heartbeat" => "1m30s",
                "log-bytes-max" => "5MB",
                "retention" => "a \"b\"\\/{c};events=3\nd,e;age=2d",
                "presence" => "a,b/{c}\n\"d\"",
                "presence-grace" => "61s",
                "data" => "/a \"b\"\\c",
                "tls-cert" | "tls-key" => "/a/b.pem",
                "trusted-proxies" => "10.0.0.0/8,::1",
                "key-file" => "a.pem,b \"c\".pem",
                "issuer" => "me",
                "algorithm" => "EdDSA",
                "authority" => {
                    "issuer=a;audience=b;audience=c;key-file=d\nkey-file=e;require-exp=1"
                }
                "publish-rate" => "7",
                "token-cookie" => "",
                _ => return None,
            };
            Some(given.to_owned())
        };
        let nothing = |_: &str| None;
        let show = |settings| config_file(&Loaded { settings, file: None, warnings: Vec::new() });
        let Ok(settings) = merge(&flags, &nothing, None, 3) else { panic!("invalid flags") };
        let shown = show(settings);
        let Ok(file) = SettingsFile::parse(Path::new("t"), &shown) else { panic!("{shown}") };
        let Ok(settings) = merge(&nothing, &nothing, Some(&file), 1) else { panic!("{shown}") };
        let values = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split("  #").next().unwrap_or(line).to_owned()).collect()
        };
        assert_eq!(values(&show(settings)), values(&shown));
    }
}
