//! Developer tasks, run as `cargo xtask TASK`. Everything that CI does is here, so that a laptop can do it too.

mod codegen;
mod peers;
mod shell;
mod test;

use clap::Parser;
use std::process::ExitCode;

/// Developer tasks of Hesper.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Regenerate the Rust code of proto/ into crates/hesper-proto/src/generated.
    Codegen,
    /// Check and test everything; what CI runs.
    Test(test::Options),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Codegen => codegen::write(),
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
