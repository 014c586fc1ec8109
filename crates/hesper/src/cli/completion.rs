//! `completion`: scripts for shells.

use super::Cli;
use crate::output;
use anyhow::Result;
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

/// Prints a completion script.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Supported,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

impl CompletionArgs {
    /// Prints it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn run(&self) -> Result<()> {
        let shell = match self.shell {
            Supported::Bash => Shell::Bash,
            Supported::Zsh => Shell::Zsh,
            Supported::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "hesper", &mut script);
        Ok(output::raw(&script)?)
    }
}
