//! Developer tasks, run as `cargo xtask TASK`. Everything that CI does is here, so that a laptop can do it too.

mod codegen;
mod otlp;
mod peers;
mod shell;
mod test;

use clap::Parser;
use std::process::ExitCode;

/// Developer tasks of Hesper.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Regenerate what is generated: the Rust code of proto/ in hesper-proto, the table of OTLP's messages in hesper-otlp.
    Codegen,
    /// Check and test everything; what CI runs.
    Test(test::Options),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Codegen => codegen::write().and_then(|()| otlp::write()),
        Task::Test(options) => test::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
