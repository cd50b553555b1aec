//! Every check and every test, in the order in which a failure costs the least time.

use anyhow::Result;

use crate::{install, root, run, tidy};

pub(crate) fn run() -> Result<()> {
    install::run()?;
    run::cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    run::cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"])?;
    run::cargo(&["test", "--workspace"])?;
    let binary = root()?.join("target/debug/tidings");
    let variables = [("TIDINGS_BIN", binary.as_path())];
    let browser = ["--test", "--test-concurrency=1"];
    run::command("e2e/browser", "node".as_ref(), &browser, &variables)?;
    let python = root()?.join(install::PYTHON);
    run::command("e2e/python", &python, &["-m", "pytest", "--quiet"], &variables)
}
