//! Developer tasks, run as `cargo xtask TASK`. Everything that CI does is here, so that a laptop can do it too.

mod codegen;

use clap::Parser;

/// Developer tasks of Hesper.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Regenerate the Rust code of proto/ into crates/hesper-proto/src/generated.
    Codegen,
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Codegen => codegen::write(),
    }
}
